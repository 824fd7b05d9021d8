"use strict";
(() => {
  const parse = (id) => JSON.parse(document.getElementById(id).textContent);
  const figures = parse("figures");
  const packed = parse("packed");
  const charts = [...document.querySelectorAll(".chart")];
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Series are packed: two bytes a value between the lowest and the highest of the series (report/series.py).
  const MISSING = 65535;
  const unpack = (one) => {
    const bytes = Uint8Array.from(atob(one.v), (letter) => letter.charCodeAt(0));
    const words = new DataView(bytes.buffer);
    const step = (one.hi - one.lo) / (MISSING - 1);
    return Array.from({ length: bytes.length / 2 }, (_, index) => {
      const word = words.getUint16(2 * index, true);
      return word === MISSING ? null : one.lo + step * word;
    });
  };
  const partsOf = (one) => {
    const values = unpack(one);
    let at = 0;
    return packed.parts.map((part) => {
      const y = values.slice(at, at + part.length);
      at += part.length;
      const name = part.model === "ARIMA" && one.arima ? one.arima : part.model;
      return { ...part, name, x: packed.dates.slice(part.start, part.start + part.length), y };
    });
  };
  const describe = (one) => {
    const parts = partsOf(one);
    const actual = parts.find((part) => part.what === "y");
    const models = parts.filter((part) => part.what === "model" && part.y.some((value) => value !== null));
    const bands = [[95, 0.12], [80, 0.22]].flatMap(([level, o]) =>
      parts.filter((part) => part.what === `lo_${level}`).map((low) => {
        const high = parts.find((part) => part.what === `hi_${level}` && part.at === low.at);
        return { c: low.c, o, level, name: low.name, x: low.x, lo: low.y, hi: high ? high.y : low.y };
      }));
    const end = Charts.instant(actual.x[actual.x.length - 1]);
    const names = new Map(models.map((model) => [model.name, model]));
    const levels = new Map(bands.map((band) => [band.level, band]));
    return {
      kind: "plane",
      height: 380,
      x: { time: true },
      // Sales start at zero: a cut axis would exaggerate every wiggle.
      y: { zero: !actual.y.some((value) => value < 0) },
      lines: [
        ...models.map((model) => ({ ...model, w: model.c === "blue" ? 2.4 : 1.6 })).reverse(),
        { ...actual, name: "actual", c: "ink", w: 1.8 },
      ],
      bands,
      vlines: packed.cutoffs.map((x) => ({ x, text: Charts.instant(x) >= end ? "future →" : "held out →" })),
      legend: [
        { name: "actual", c: "ink", line: true },
        ...[...names.values()].map(({ name, c, dash }) => ({ name, c, dash })),
        ...[...levels.values()].reverse().map(({ name, level, c, o }) => ({ name: `${name} ${level} %`, c, band: o * 1.6 })),
      ],
    };
  };
  const specOf = (chart) => {
    const spec = chart.dataset.chart ? figures[chart.dataset.chart] : { kind: "series", at: Number(chart.dataset.at) };
    return spec.kind === "series" ? describe(packed.series[spec.at]) : spec;
  };

  // Charts are drawn as wide as they are shown, and anew when that changes; hidden ones when they appear.
  const widths = new WeakMap();
  const draw = (chart, width = chart.clientWidth) => {
    if (!width || (chart.dataset.chart === undefined && chart.dataset.at === undefined)) return;
    widths.set(chart, width);
    Charts.draw(chart, specOf(chart), width);
    filterWithin(chart);
  };
  const watcher = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (Math.abs((widths.get(target) || 0) - target.clientWidth) > 1) draw(target);
    }
  });

  // The filter: whatever says which segment or series it is about is hidden, or faint in a chart, if it is another.
  const filter = document.getElementById("filter");
  const bySegment = document.getElementById("filter-segment");
  const bySeries = document.getElementById("filter-series");
  const wanted = () => ({
    segment: bySegment ? bySegment.value : "",
    part: bySeries ? bySeries.value.trim().toLowerCase() : "",
  });
  const isOther = ({ dataset }, { segment, part }) => {
    const { segment: of, series } = dataset;
    // A series without a segment is in none of them.
    if (segment && (of !== undefined || series !== undefined) && of !== segment) return true;
    return Boolean(part) && series !== undefined && !series.toLowerCase().includes(part);
  };
  const filterWithin = (root) => {
    const asked = wanted();
    for (const element of all("[data-segment], [data-series]", root)) {
      const off = isOther(element, asked);
      if (element instanceof HTMLTableRowElement || element instanceof HTMLButtonElement) element.hidden = off;
      else element.classList.toggle("off", off);
    }
    return asked;
  };
  const followers = [];
  const applyFilter = () => {
    const { segment, part } = filterWithin(document);
    followers.forEach((follow) => follow());
    const items = all(".lookup tbody tr").length ? all(".lookup tbody tr") : all("[role=tab]");
    const left = items.filter((item) => !item.hidden).length;
    const say = (count) => count.toLocaleString("en");
    const active = Boolean(segment || part);
    document.getElementById("filter-status").textContent = active ? `${say(left)} of ${say(items.length)} series` : "";
    document.getElementById("filter-clear").hidden = !active;
    filter.classList.toggle("active", active);
  };
  if (filter) {
    [bySegment, bySeries].filter(Boolean).forEach((field) => {
      ["input", "change"].forEach((event) => field.addEventListener(event, applyFilter));
    });
    document.getElementById("filter-clear").addEventListener("click", () => {
      if (bySegment) bySegment.value = "";
      if (bySeries) bySeries.value = "";
      applyFilter();
      (bySegment || bySeries).focus();
    });
    const wide = window.matchMedia("(min-width: 56.01rem)");
    const unfold = () => { filter.open = wide.matches; };
    unfold();
    wide.addEventListener("change", unfold);
  }

  // Tables are sorted by their headings: numbers fall first, text rises first; missing values stay at the end.
  const keyOf = (row, index) => {
    const cell = row.cells[index];
    return cell.dataset.sort ?? cell.textContent;
  };
  const compare = (left, right, numeric, sign) => {
    if (!numeric) return sign * left.localeCompare(right, undefined, { numeric: true });
    if (left === "" || right === "") return (left === "") - (right === "");
    return sign * (Number(left) - Number(right));
  };
  all("table.sortable").forEach((table) => {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, index) => {
      const numeric = head.classList.contains("number");
      head.querySelector("button").addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const falling = before ? before === "ascending" : numeric;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const rows = [...body.rows];
        rows.sort((a, b) => compare(keyOf(a, index), keyOf(b, index), numeric, falling ? -1 : 1));
        body.append(...rows);
      });
    });
  });

  // Tabs, by mouse and by arrow keys; those that the filter hides are passed over.
  all(".tabs").forEach((tabs) => {
    const buttons = all("[role=tab]", tabs);
    const paneOf = (button) => document.getElementById(button.getAttribute("aria-controls"));
    const select = (chosen) => {
      buttons.forEach((button) => {
        const on = button === chosen;
        button.setAttribute("aria-selected", on);
        button.tabIndex = on ? 0 : -1;
        paneOf(button).hidden = !on;
      });
    };
    const shown = () => buttons.filter((button) => !button.hidden);
    followers.push(() => {
      buttons.forEach((button) => paneOf(button).classList.toggle("off", button.hidden));
      const selected = buttons.find((button) => button.getAttribute("aria-selected") === "true");
      if (shown().length) select(selected && !selected.hidden ? selected : shown()[0]);
      else buttons.forEach((button) => { paneOf(button).hidden = true; });
      tabs.querySelector(".none").hidden = shown().length > 0;
    });
    buttons.forEach((button) => {
      button.addEventListener("click", () => select(button));
      button.addEventListener("keydown", (event) => {
        const list = shown();
        const at = list.indexOf(button);
        const next = {
          ArrowRight: list[(at + 1) % list.length],
          ArrowLeft: list[(at - 1 + list.length) % list.length],
          Home: list[0],
          End: list[list.length - 1],
        }[event.key];
        if (!next) return;
        event.preventDefault();
        next.focus();
        select(next);
      });
    });
  });

  // Looking up a series: a click on its name draws it, and fills its table when that is asked for.
  all(".lookup").forEach((lookup) => {
    const figure = lookup.querySelector("figure");
    const chart = figure.querySelector(".chart");
    const details = figure.querySelector("details");
    const number = (value) => (value === null ? "–" : Charts.formats.number(value));
    const fill = () => {
      const scroll = details.querySelector(".scroll");
      const one = packed.series[Number(chart.dataset.at)];
      const parts = partsOf(one).filter((part) => part.y.some((value) => value !== null));
      const table = document.createElement("table");
      table.setAttribute("aria-label", `Values of ${one.id}`);
      const row = (section, name, texts) => {
        const line = section.insertRow();
        texts.forEach((text, index) => {
          const cell = document.createElement(name);
          if (name === "th") cell.scope = "col";
          if (index) cell.className = "number";
          cell.textContent = text;
          line.append(cell);
        });
      };
      const bounds = { lo_95: "95 % from", hi_95: "95 % to", lo_80: "80 % from", hi_80: "80 % to" };
      // A column for each kind of value: of one date there is at most one forecast of a model.
      const columns = new Map();
      parts.forEach((part) => {
        const title = part.what === "y" ? "actual" : bounds[part.what] || part.name;
        const column = columns.get(title) || new Map();
        part.x.forEach((moment, index) => { if (part.y[index] !== null) column.set(moment, part.y[index]); });
        columns.set(title, column);
      });
      row(table.createTHead(), "th", ["for", ...columns.keys()]);
      const body = table.createTBody();
      packed.dates.forEach((moment) => {
        const values = [...columns.values()].map((column) => column.get(moment) ?? null);
        if (values.some((value) => value !== null)) row(body, "td", [String(moment), ...values.map(number)]);
      });
      scroll.replaceChildren(table);
    };
    details.addEventListener("toggle", () => { if (details.open) fill(); });
    const places = new Map(packed.series.map((one, index) => [one.id, index]));
    const show = (row) => {
      const id = row.dataset.series;
      all("tr[aria-current]", lookup).forEach((other) => other.removeAttribute("aria-current"));
      row.setAttribute("aria-current", "true");
      figure.hidden = false;
      figure.querySelector("h4").textContent = row.dataset.segment === undefined ? id : `${id}, segment ${row.dataset.segment}`;
      chart.dataset.at = places.get(id);
      chart.setAttribute("aria-label", `${id}: what happened, and what was forecast`);
      draw(chart);
      if (details.open) fill();
    };
    lookup.querySelector("tbody").addEventListener("click", (event) => {
      if (event.target.closest("button.pick")) show(event.target.closest("tr"));
    });
    // At first, one that is not among the chosen ones anyway.
    const chosen = new Set(all("[role=tab]").map((tab) => tab.dataset.series));
    const rows = all("tbody tr", lookup);
    const first = rows.find((row) => !chosen.has(row.dataset.series)) || rows[0];
    if (first) show(first);
    // What is drawn is one of those that the filter leaves.
    followers.push(() => {
      const current = rows.find((row) => row.hasAttribute("aria-current"));
      const left = [...lookup.querySelector("tbody").rows].find((row) => !row.hidden);
      if (left && (!current || current.hidden)) show(left);
    });
  });

  charts.forEach((chart) => {
    draw(chart, chart.clientWidth || document.querySelector("main").clientWidth - 80);
    watcher.observe(chart);
  });

  // On paper: as wide as a page, every series.
  window.addEventListener("beforeprint", () => charts.forEach((chart) => draw(chart, 640)));
  window.addEventListener("afterprint", () => charts.forEach((chart) => draw(chart)));

  // The navigation shows where the reader is.
  const links = new Map(all("nav a:not(.home)").map((link) => [link.hash.slice(1), link]));
  const spy = new IntersectionObserver(
    (entries) => {
      const entering = entries.find((entry) => entry.isIntersecting);
      if (!entering) return;
      links.forEach((link) => link.removeAttribute("aria-current"));
      links.get(entering.target.id)?.setAttribute("aria-current", "true");
    },
    { rootMargin: "-10% 0px -80% 0px" },
  );
  all("main > section").forEach((section) => spy.observe(section));
})();
