"use strict";
(() => {
  const parse = (id) => JSON.parse(document.getElementById(id).textContent);
  const figures = parse("figures");
  const darkTheme = parse("dark-theme");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const coarse = window.matchMedia("(pointer: coarse)").matches;
  const charts = [...document.querySelectorAll("[data-chart]")];
  const options = {
    responsive: true,
    displaylogo: false,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  };
  const family = getComputedStyle(document.body).fontFamily;

  // A figure's colours are the light theme's; each is exchanged for its dark counterpart, wherever it stands.
  const themed = (value, isDark) => {
    if (typeof value === "string") return (isDark && darkTheme[value]) || value;
    if (Array.isArray(value)) return value.map((item) => themed(item, isDark));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item, isDark)]));
  };

  const draw = (chart, isDark, width) => {
    const { data, layout } = themed(figures[chart.dataset.chart], isDark);
    const narrow = (width || chart.clientWidth || window.innerWidth) < 520;
    layout.font.family = family;
    layout.font.size = narrow ? 11 : layout.font.size;
    // A finger that drags wants to scroll the page.
    layout.dragmode = coarse ? false : "zoom";
    if (width) layout.width = width;
    // Bars and heat maps have nothing to zoom into.
    const displayModeBar = !coarse && data.some((trace) => trace.type === "scatter") && "hover";
    // Anew, since an update would keep the width that the chart was first drawn with, a guess where it was hidden.
    Plotly.newPlot(chart, data, layout, { ...options, displayModeBar });
  };
  const drawAll = (isDark, width) => charts.forEach((chart) => draw(chart, isDark, width));
  drawAll(dark.matches);
  dark.addEventListener("change", () => drawAll(dark.matches));

  // On paper: light, as wide as a page, every series.
  window.addEventListener("beforeprint", () => drawAll(false, 640));
  window.addEventListener("afterprint", () => drawAll(dark.matches));

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
  document.querySelectorAll("table.sortable").forEach((table) => {
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

  // Tabs, by mouse and by arrow keys.
  document.querySelectorAll(".tabs").forEach((tabs) => {
    const buttons = [...tabs.querySelectorAll("[role=tab]")];
    const select = (chosen) => {
      buttons.forEach((button) => {
        const on = button === chosen;
        button.setAttribute("aria-selected", on);
        button.tabIndex = on ? 0 : -1;
        const pane = document.getElementById(button.getAttribute("aria-controls"));
        pane.hidden = !on;
        // Drawn while hidden, a chart does not know its width.
        if (on) pane.querySelectorAll("[data-chart]").forEach((chart) => draw(chart, dark.matches));
      });
    };
    buttons.forEach((button, index) => {
      button.addEventListener("click", () => select(button));
      button.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const next = buttons[(index + step + buttons.length) % buttons.length];
        next.focus();
        select(next);
      });
    });
  });

  // The navigation shows where the reader is.
  const links = new Map([...document.querySelectorAll("nav a:not(.home)")].map((link) => [link.hash.slice(1), link]));
  const spy = new IntersectionObserver(
    (entries) => {
      const entering = entries.find((entry) => entry.isIntersecting);
      if (!entering) return;
      links.forEach((link) => link.removeAttribute("aria-current"));
      links.get(entering.target.id)?.setAttribute("aria-current", "true");
    },
    { rootMargin: "-10% 0px -80% 0px" },
  );
  document.querySelectorAll("main > section").forEach((section) => spy.observe(section));
})();
