"""Names that people give their columns, in several languages, and how much a name is like them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

Words = tuple[str, ...]

TIME: Words = (
    "ds", "date", "datum", "fecha", "data", "timestamp", "datetime", "time", "zeit", "zeitpunkt", "uhrzeit", "jour",
    "dia", "giorno", "day", "tag", "week", "woche", "kw", "semaine", "semana", "settimana", "month", "monat", "mois",
    "mes", "mese", "period", "periode", "periodo", "quarter", "quartal", "trimestre", "year", "jahr", "annee", "ano",
    "anno", "hour", "stunde", "heure", "hora", "ora", "step", "when", "dt", "ts",
)  # fmt: skip
VALUE: Words = (
    "y", "sales", "umsatz", "absatz", "verkauf", "verkaeufe", "ventes", "ventas", "vendite", "vendas", "omzet",
    "revenue", "turnover", "units sold", "demand", "nachfrage", "demande", "demanda", "volume", "erloes",
    "chiffre affaires", "ingresos", "importe", "fatturato", "receita", "quantity", "qty", "menge", "anzahl", "stueck",
    "units", "pieces", "cantidad", "quantita", "quantite", "quantidade", "aantal", "amount", "betrag", "montant",
    "value", "wert", "valeur", "valor", "valore", "target", "consumption", "verbrauch", "load", "count", "orders",
    "patients", "passengers", "visits", "arrivals", "total",
)  # fmt: skip
SERIES: Words = (
    "unique id", "series id", "series", "serie", "reihe", "store", "shop", "filiale", "branch", "outlet", "magasin",
    "tienda", "negozio", "loja", "winkel", "laden", "markt", "retailer", "store nbr", "store id", "station", "standort",
    "location", "site", "warehouse", "lager", "depot", "sensor", "meter", "zaehler", "sku", "item", "product",
    "article", "artikel", "produkt", "produit", "producto", "prodotto", "produto", "material", "country", "land",
    "pays", "pais", "paese", "region", "state", "bundesland", "city", "stadt", "department", "dept", "abteilung",
    "category", "kategorie", "family", "warengruppe", "brand", "marke", "customer", "kunde", "name", "key", "id",
)  # fmt: skip
BASKET: Words = (
    "basket id", "basket", "invoice", "invoice no", "receipt", "transaction", "transaction id", "order", "order id",
    "order number", "bon", "bonnummer", "beleg", "belegnr", "belegnummer", "rechnung", "rechnungsnummer", "bestellung",
    "auftrag", "warenkorb", "ticket", "facture", "commande", "panier", "pedido", "factura", "fattura", "ordine",
    "scontrino", "recibo", "bestelling", "bill", "check no", "cart", "session",
)  # fmt: skip
ITEM: Words = (
    "item", "product", "product id", "article", "artikel", "stock code", "sku", "produkt", "produit", "producto",
    "articulo", "prodotto", "articolo", "produto", "artigo", "material", "ware", "upc", "ean", "gtin", "plu", "asin",
    "item id", "item no", "item name", "description", "bezeichnung",
)  # fmt: skip
QUANTITY: Words = (
    "quantity", "qty", "menge", "anzahl", "stueck", "stueckzahl", "units", "pieces", "quantite", "cantidad", "quantita",
    "quantidade", "aantal", "count",
)  # fmt: skip
PRICE: Words = (
    "price", "unit price", "preis", "einzelpreis", "stueckpreis", "prix", "precio", "prezzo", "preco", "prijs",
    "sell price",
)  # fmt: skip
CUSTOMER: Words = (
    "customer", "customer id", "kunde", "kundennr", "kundennummer", "client", "cliente", "klant", "card", "karte",
    "household", "member", "user", "loyalty", "acheteur",
)  # fmt: skip
STORE: Words = (
    "store", "store id", "shop", "filiale", "branch", "outlet", "magasin", "tienda", "negozio", "loja", "winkel",
    "laden", "markt", "standort", "site", "location", "country", "land", "pays", "pais", "region",
)  # fmt: skip
PROMOTION: Words = (
    "promo", "promotion", "on promotion", "aktion", "werbung", "oferta", "promocion", "offerta", "rabatt", "discount",
)  # fmt: skip
OPEN: Words = ("open", "is open", "geoeffnet", "offen", "ouvert", "abierto", "aperto", "aberto")
AHEAD: Words = (
    *PROMOTION,
    "display", "disp", "feature", "campaign", "kampagne", "holiday", "feiertag", "school holiday", "ferien", "ferie",
    "feriado", "festivo", "jour ferie", "vacances", "event", "snap", *PRICE, "weekday", "wochentag", "weekend",
    "wochenende", "day of week", "dayofweek", "month", "monat", "week of year", "year", "quarter", "is weekend",
)  # fmt: skip
"""What is usually known before the day comes: promotions, holidays, prices, the calendar itself."""
SEEN_AFTER: Words = ("temperature", "temperatur", "weather", "wetter", "visitors", "besucher", "customers", "footfall")
"""What looks like a covariate and is known afterwards only."""

_SPELT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "ø": "o", "æ": "ae", "ł": "l"})
_SHORTEST_PART = 4
"""Letters of a word that is looked for inside a longer one (Verkaufsmenge); ``day`` is in too many."""
_NO_PART = frozenset({"count", "data", "time", "mese", "load", "state", "name"})
"""Words that begin or end others: country, database, estate."""
WHOLE, LAST, INSIDE, PART = 1.0, 0.8, 0.65, 0.6
"""How much a name is like a word: it is one, ends with one (unit_price), holds one, or one begins or ends a part."""


def tokens(name: str) -> list[str]:
    """The words of a column's name: ``InvoiceNo`` and ``invoice_no`` are two each, without accents."""
    return re.findall(r"[a-z]+|[0-9]+", _spelt_out(name))


def plain_name(name: str) -> str:
    """A name of small letters, digits and underscores; empty where it has none of them (Chinese)."""
    return "_".join(re.findall(r"[a-z0-9]+", _spelt_out(name)))


def _spelt_out(name: str) -> str:
    split = re.sub(r"(?<=[a-zà-ÿ0-9])(?=[A-ZÀ-Ý])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    spelt = split.casefold().translate(_SPELT)
    return "".join(sign for sign in unicodedata.normalize("NFD", spelt) if not unicodedata.combining(sign))


def likeness(name: str, words: Sequence[str]) -> float:
    """How much a name is like one of some words, 0 to 1; of those it is equally like, an earlier word counts more."""
    parts = tokens(name)
    named = "".join(parts)
    letters = [part for part in parts if not part.isdigit()]
    # What says that something is a number or name of a thing names the thing.
    things = [part for part in letters if part not in ("no", "nr", "nbr", "num", "number", "nummer", "code", "id")]
    best = 0.0
    for place, word in enumerate(words):
        whole = word.replace(" ", "")
        if whole in (named, "".join(things)):
            found = WHOLE
        elif things and things[-1] in (whole, f"{whole}s"):
            found = LAST
        elif whole in letters:
            found = INSIDE
        elif (
            len(whole) >= _SHORTEST_PART
            and whole not in _NO_PART
            and any(part.startswith(whole) or part.endswith(whole) for part in letters)
        ):
            found = PART
        else:
            continue
        best = max(best, found - 0.001 * place)
    return best
