"use strict";
// Draws the page's charts as SVG from plain descriptions (charts.py). Colours are classes of the style sheet, texts go
// into text nodes only, and nothing is an inline style: the page's policy forbids these.
const Charts = (() => {
  const NS = "http://www.w3.org/2000/svg";
  const FONT = 12;
  const family = getComputedStyle(document.body).fontFamily;
  const pen = document.createElement("canvas").getContext("2d");
  const widthOf = (text, size = FONT) => {
    pen.font = `${size}px ${family}`;
    return pen.measureText(text).width;
  };
  const shorten = (text, room) => {
    if (widthOf(text) <= room) return text;
    let end = text.length;
    while (end > 1 && widthOf(text.slice(0, end) + "…") > room) end -= 1;
    return text.slice(0, end).trimEnd() + "…";
  };

  const make = (parent, name, attributes = {}, text) => {
    const element = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== undefined && value !== null && value !== "") element.setAttribute(key, value);
    }
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };
  const html = (parent, name, className, text) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };

  // Numbers as the page's tables have them.
  const decimalsOf = (step) => {
    let decimals = 0;
    while (decimals < 6 && Math.abs(step * 10 ** decimals - Math.round(step * 10 ** decimals)) > 1e-6 * step * 10 ** decimals) decimals += 1;
    return decimals;
  };
  const fixed = (value, decimals) =>
    value.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  const significant = (value, digits) => {
    if (value === 0) return "0";
    const decimals = digits - 1 - Math.floor(Math.log10(Math.abs(value)));
    return fixed(value, Math.max(0, Math.min(8, decimals)));
  };
  const plus = (value, text) => (value > 0 ? "+" + text : text);
  const formats = {
    percent: (value, step) => {
      const share = 100 * value;
      if (step) return fixed(share, decimalsOf(100 * step)) + " %";
      return (Math.abs(share) >= 1 ? fixed(share, 1) : significant(share, 2)) + " %";
    },
    pp: (value, step) => plus(value, step ? fixed(100 * value, decimalsOf(100 * step)) : significant(100 * value, 3)),
    signed: (value) => (Math.abs(value) < 0.05 ? "0.0" : plus(value, fixed(value, 1))),
    number: (value, step) => {
      if (!step) return significant(value, 4);
      if (Math.abs(value) >= 1e6) return fixed(value / 1e6, decimalsOf(step / 1e6)) + " M";
      return fixed(value, decimalsOf(step));
    },
  };

  // Time: moments are texts of a date, with a time or without, or numbers of steps.
  const MINUTE = 60e3, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
  const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const WEEKDAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
  const instant = (moment) => (typeof moment === "number" ? moment : Date.parse(moment.replace(" ", "T") + (moment.length > 10 ? "Z" : "")));
  const two = (number) => String(number).padStart(2, "0");
  const clock = (date) => `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}`;
  const sayMoment = (moment) => {
    if (typeof moment === "number") return `step ${moment}`;
    const date = new Date(instant(moment));
    const day = `${WEEKDAYS[date.getUTCDay()]} ${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]} ${date.getUTCFullYear()}`;
    return moment.length > 10 ? `${day} ${clock(date)}` : day;
  };
  const timeTicks = (low, high, count) => {
    const ticks = [];
    const span = high - low;
    const short = [MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY]
      .find((unit) => span / unit <= count);
    if (short) {
      // Weeks begin on Mondays; the first day of 1970 was a Thursday.
      const shift = short >= 7 * DAY ? 4 * DAY : 0;
      for (let at = Math.ceil((low - shift) / short) * short + shift; at <= high; at += short) {
        const date = new Date(at);
        const day = `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`;
        ticks.push([at, short < DAY && date.getUTCHours() + date.getUTCMinutes() ? clock(date) : day]);
      }
      return ticks;
    }
    const months = [1, 2, 3, 6, 12, 24, 60, 120, 240].find((unit) => span / (unit * 30.4 * DAY) <= count) || 600;
    const first = new Date(low);
    let month = Math.ceil((first.getUTCFullYear() * 12 + first.getUTCMonth()) / months) * months;
    for (; ; month += months) {
      const at = Date.UTC(Math.floor(month / 12), month % 12);
      if (at > high) return ticks;
      if (at < low) continue;
      const year = String(Math.floor(month / 12));
      ticks.push([at, months >= 12 ? year : month % 12 && ticks.length ? MONTHS[month % 12] : `${MONTHS[month % 12]} ${year}`]);
    }
  };
  const niceStep = (span, count) => {
    const raw = span / Math.max(count, 1);
    const power = 10 ** Math.floor(Math.log10(raw));
    const factor = raw / power;
    return power * ([1, 2, 2.5, 5].find((nice) => factor <= nice + 1e-9) || 10);
  };
  const linearTicks = (low, high, count, format, whole) => {
    let step = niceStep(high - low, count);
    if (whole) step = Math.max(1, Math.round(step));
    const ticks = [];
    for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index += 1) {
      // Adding 0 makes 0 of -0.
      ticks.push([index * step + 0, formats[format](index * step + 0, step)]);
    }
    return ticks;
  };
  const logTicks = (low, high, count, format) => {
    const ticks = [];
    const decades = Math.log10(high / low);
    const digits = decades * 3 <= count ? [1, 2, 5] : [1];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      for (const digit of digits) {
        const at = digit * 10 ** power;
        if (at >= low * 0.999 && at <= high * 1.001) ticks.push([at, formats[format](at, at)]);
      }
    }
    return ticks;
  };
  const extent = (values, axis) => {
    const known = values.filter((value) => Number.isFinite(value));
    if (axis.range) return axis.range;
    if (!known.length) return [0, 1];
    let low = known.reduce((a, b) => Math.min(a, b)), high = known.reduce((a, b) => Math.max(a, b));
    if (axis.log) return [low / 1.15, high * 1.15];
    if (axis.zero) { low = Math.min(low, 0); high = Math.max(high, 0); }
    if (high === low) { high += Math.abs(high) || 1; if (!axis.zero) low -= Math.abs(low) || 1; }
    const room = (high - low) * 0.05;
    return [axis.zero && low === 0 ? 0 : low - room, axis.zero && high === 0 ? 0 : high + room];
  };

  // What is common to all charts: a legend of words in front, an image with marks, a tip beside the pointer.
  const shapeAt = (parent, shape, x, y, size, attributes) => {
    if (shape === "square") return make(parent, "rect", { x: x - size, y: y - size, width: 2 * size, height: 2 * size, ...attributes });
    if (shape === "diamond") return make(parent, "path", { d: `M${x} ${y - 1.35 * size}l${1.35 * size} ${1.35 * size}l${-1.35 * size} ${1.35 * size}l${-1.35 * size} ${-1.35 * size}z`, ...attributes });
    if (shape === "triangle") return make(parent, "path", { d: `M${x} ${y - 1.3 * size}l${1.3 * size} ${2.3 * size}h${-2.6 * size}z`, ...attributes });
    return make(parent, "circle", { cx: x, cy: y, r: size, ...attributes });
  };
  const legend = (chart, keys) => {
    if (!keys || !keys.length) return;
    const list = html(chart, "div", "legend");
    for (const key of keys) {
      const item = html(list, "span", "key");
      const swatch = make(item, "svg", { width: 22, height: 12, "aria-hidden": "true" });
      if (key.band) make(swatch, "rect", { x: 1, y: 1, width: 20, height: 10, class: `f-${key.c}`, "fill-opacity": key.band });
      else if (key.shape) shapeAt(swatch, key.shape, 11, 6, 4.5, { class: key.open ? `s-${key.c} hollow` : `f-${key.c}` });
      else if ("dash" in key || key.line) make(swatch, "line", { x1: 0, x2: 22, y1: 6, y2: 6, class: `s-${key.c} line`, "stroke-width": 2, "stroke-dasharray": key.dash });
      else make(swatch, "rect", { x: 4, y: 0, width: 14, height: 12, rx: 2, class: `f-${key.c}` });
      item.append(key.name);
    }
  };
  const frame = (chart, width, height) => {
    const holder = html(chart, "div", "plot");
    const svg = make(holder, "svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    const tip = html(holder, "div", "tip");
    tip.hidden = true;
    const show = (text, x, y) => {
      tip.textContent = text;
      tip.hidden = false;
      const left = x + 14 + tip.offsetWidth > width ? Math.max(0, x - 14 - tip.offsetWidth) : x + 14;
      tip.style.left = `${left}px`;
      tip.style.top = `${Math.max(0, Math.min(y - tip.offsetHeight / 2, height - tip.offsetHeight))}px`;
    };
    const hide = () => { tip.hidden = true; };
    // A finger has no place to rest: what it touched stays told until it touches something else.
    const follow = (say, leave = hide) => {
      svg.addEventListener("pointermove", say);
      svg.addEventListener("pointerdown", say);
      svg.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") leave(); });
    };
    const place = (event) => {
      const box = svg.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    return { svg, show, hide, place, follow };
  };
  const tips = (view, marks) => {
    view.follow((event) => {
      const text = marks.get(event.target);
      if (text) view.show(text, ...view.place(event));
      else view.hide();
    });
  };
  const tag = (element, mark) => {
    if (mark.segment !== undefined) element.dataset.segment = mark.segment;
    if (mark.series !== undefined) element.dataset.series = mark.series;
    return element;
  };
  const bottomAxis = (svg, ticks, at, top, bottom, width, title) => {
    let edge = -Infinity;
    for (const [value, label] of ticks) {
      const x = at(value);
      make(svg, "line", { x1: x, x2: x, y1: top, y2: bottom, class: "grid" });
      const half = widthOf(label) / 2;
      const middle = Math.min(x, width - half - 1);
      if (middle - half < edge + 8) continue;
      edge = middle + half;
      make(svg, "text", { x: middle, y: bottom + 17, "text-anchor": "middle", class: "tick" }, label);
    }
    if (title) make(svg, "text", { x: width - 2, y: bottom + 37, "text-anchor": "end", class: "tick" }, title);
  };

  const rows = (chart, spec, width) => {
    legend(chart, spec.legend);
    const bars = spec.bars || [], dots = spec.dots || [];
    const each = bars.length > spec.labels.length ? 42 : dots.length ? 38 : 30;
    const height = spec.labels.length * each + (spec.x.title ? 52 : 34);
    const view = frame(chart, width, height);
    const bottom = spec.labels.length * each + 4;
    const room = Math.min(width * 0.42, Math.max(...spec.labels.map((label) => widthOf(label)), 10) + 4);
    const texts = spec.texts || [];
    const after = texts.length ? Math.max(...texts.map((text) => widthOf(text))) + 10 : 10;
    const values = [...bars.flatMap((bar) => [bar.a, bar.b]), ...dots.flatMap((dot) => [dot.x, dot.lo, dot.hi])];
    let [low, high] = extent(values.filter((value) => value !== null && value !== undefined), spec.x);
    const left = room + 10;
    const right = width - (spec.x.range ? 16 : after);
    if (texts.length && low < 0) low -= ((high - low) * after) / Math.max(right - left, 1);
    const at = (value) => left + ((value - low) / (high - low)) * (right - left);
    bottomAxis(view.svg, linearTicks(low, high, Math.max(2, (right - left) / 85), spec.x.format, spec.x.whole), at, 2, bottom, width, spec.x.title);
    const marks = new Map();
    if (spec.rule !== undefined) make(view.svg, "line", { x1: at(spec.rule), x2: at(spec.rule), y1: 0, y2: bottom, class: "rule" });
    spec.labels.forEach((label, row) => {
      const y = 4 + (row + 0.5) * each;
      const text = make(view.svg, "text", { x: room, y: y + 4, "text-anchor": "end", class: "label" }, shorten(label, room));
      marks.set(text, label);
      if (dots.length) make(view.svg, "line", { x1: left, x2: right, y1: y, y2: y, class: "grid" });
    });
    for (const bar of bars) {
      if (bar.b === null) continue;
      const [from, to] = [at(Math.min(bar.a, bar.b)), at(Math.max(bar.a, bar.b))];
      const y = 4 + (bar.row + 0.5) * each;
      const rect = make(view.svg, "rect", { x: from, y: y - each * 0.31, width: Math.max(to - from, 0.5), height: each * 0.62, class: `f-${bar.c}` });
      marks.set(tag(rect, bar), bar.tip);
      const shown = texts[bar.row];
      if (shown === undefined) continue;
      const inward = bar.b < 0;
      const text = make(view.svg, "text", { x: inward ? from - 5 : to + 5, y: y + 4, "text-anchor": inward ? "end" : "start", class: "label" }, shown);
      tag(text, bar);
    }
    for (const dot of dots) {
      if (dot.x === null) continue;
      const y = 4 + (dot.row + 0.5) * each;
      if (dot.lo !== undefined && dot.lo !== null && dot.hi !== null) {
        make(view.svg, "line", { x1: at(dot.lo), x2: at(dot.hi), y1: y, y2: y, class: `s-${dot.c} line`, "stroke-width": 2 });
        for (const end of [dot.lo, dot.hi]) make(view.svg, "line", { x1: at(end), x2: at(end), y1: y - 5, y2: y + 5, class: `s-${dot.c} line`, "stroke-width": 2 });
      }
      const mark = shapeAt(view.svg, dot.shape, at(dot.x), y, 6, { class: `f-${dot.c} dot` });
      marks.set(tag(mark, dot), dot.tip);
    }
    tips(view, marks);
  };

  const plane = (chart, spec, width) => {
    legend(chart, spec.legend);
    const narrow = width < 520;
    const lines = spec.lines || [], points = spec.points || [], bands = spec.bands || [];
    const vlines = spec.vlines || [], hlines = spec.hlines || [], labels = spec.labels || [];
    const isTime = spec.x.time && [...lines, ...bands].some((line) => line.x.some((moment) => typeof moment === "string"));
    const across = (moment) => (isTime ? instant(moment) : moment);
    const xs = [...lines.flatMap((line) => line.x), ...bands.flatMap((band) => band.x), ...vlines.map((line) => line.x)].map(across);
    const allX = [...xs, ...points.map((point) => point.x), ...labels.map((label) => label.x)];
    const allY = [...lines.flatMap((line) => line.y), ...bands.flatMap((band) => [...band.lo, ...band.hi]),
      ...points.map((point) => point.y), ...hlines.map((line) => line.y), ...labels.map((label) => label.y)];
    let [x0, x1] = isTime || (spec.x.time && !isTime) || lines.length && !points.length
      ? [allX.reduce((a, b) => Math.min(a, b)), allX.reduce((a, b) => Math.max(a, b))] : extent(allX, spec.x);
    if (x0 === x1) { x0 -= 1; x1 += 1; }
    let [y0, y1] = extent(allY.filter((value) => value !== null), spec.y);
    const top = spec.y.title || vlines.length ? 24 : 8;
    const height = narrow ? Math.min(spec.height, 330) : spec.height;
    const bottom = height - (spec.x.bare ? 24 : spec.x.title ? 46 : 26);
    const yTicks = linearTicks(y0, y1, narrow ? 4 : 6, spec.y.format || "number");
    const left = spec.y.bare ? 8 : Math.max(...yTicks.map(([, label]) => widthOf(label)), 8) + 10;
    const right = width - 10;
    if (spec.equal) {
      // A distance is to mean the same in both directions.
      const scale = Math.max((x1 - x0) / (right - left), (y1 - y0) / (bottom - top));
      const [moreX, moreY] = [scale * (right - left) - (x1 - x0), scale * (bottom - top) - (y1 - y0)];
      [x0, x1, y0, y1] = [x0 - moreX / 2, x1 + moreX / 2, y0 - moreY / 2, y1 + moreY / 2];
    }
    const share = spec.x.log ? (value) => Math.log(value / x0) / Math.log(x1 / x0) : (value) => (value - x0) / (x1 - x0);
    const atX = (value) => left + share(value) * (right - left);
    const atY = (value) => bottom - ((value - y0) / (y1 - y0)) * (bottom - top);
    const view = frame(chart, width, height);
    const { svg } = view;
    const count = Math.max(2, (right - left) / (narrow ? 62 : 90));
    const ticks = spec.x.bare ? [] : isTime ? timeTicks(x0, x1, count)
      : spec.x.log ? logTicks(x0, x1, count, spec.x.format) : linearTicks(x0, x1, count, spec.x.format || "number", spec.x.whole || spec.x.time);
    if (!spec.y.bare) {
      for (const [value, label] of yTicks) {
        make(svg, "line", { x1: left, x2: right, y1: atY(value), y2: atY(value), class: "grid" });
        make(svg, "text", { x: left - 6, y: atY(value) + 4, "text-anchor": "end", class: "tick" }, label);
      }
    }
    bottomAxis(svg, ticks, atX, top, bottom - (spec.x.bare ? 20 : 0), width, spec.x.title);
    if (spec.x.bare) make(svg, "rect", { x: left, y: top, width: right - left, height: bottom - top, class: "grid hollow" });
    if (spec.y.title) make(svg, "text", { x: 0, y: 12, class: "tick" }, spec.y.title);
    const marks = new Map();
    for (const line of hlines) {
      make(svg, "line", { x1: left, x2: right, y1: atY(line.y), y2: atY(line.y), class: `s-${line.c} line`, "stroke-width": 1.6, "stroke-dasharray": "5 4" });
      make(svg, "text", { x: right, y: atY(line.y) - 5, "text-anchor": "end", class: `t-${line.c} halo` }, line.text);
    }
    for (const line of vlines) {
      const x = atX(across(line.x));
      make(svg, "line", { x1: x, x2: x, y1: top - 4, y2: bottom, class: "rule", "stroke-dasharray": "2 3" });
      const fits = x + widthOf(line.text) < width;
      make(svg, "text", { x: fits ? x : width - 1, y: 14, "text-anchor": fits ? "start" : "end", class: "tick" }, line.text);
    }
    for (const band of bands) {
      const known = band.x.map((_, index) => index).filter((index) => band.lo[index] !== null && band.hi[index] !== null);
      if (!known.length) continue;
      const upper = known.map((index) => `${atX(across(band.x[index])).toFixed(1)} ${atY(band.hi[index]).toFixed(1)}`);
      const lower = known.map((index) => `${atX(across(band.x[index])).toFixed(1)} ${atY(band.lo[index]).toFixed(1)}`).reverse();
      make(svg, "path", { d: `M${[...upper, ...lower].join("L")}z`, class: `f-${band.c}`, "fill-opacity": band.o });
    }
    for (const line of lines) {
      let path = "", pen = "M";
      line.x.forEach((moment, index) => {
        const value = line.y[index];
        if (value === null || value === undefined) { pen = "M"; return; }
        const [x, y] = [atX(across(moment)), atY(value)];
        path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
        pen = "L";
        if (line.marks) make(svg, "circle", { cx: x, cy: y, r: 2.8, class: `f-${line.c}` });
      });
      make(svg, "path", { d: path, class: `s-${line.c} line`, "stroke-width": line.w || 2, "stroke-dasharray": line.dash });
    }
    const order = [...points].sort((one, other) => (one.o ?? 1) - (other.o ?? 1));
    const drawn = order.filter((point) => point.x !== null && point.y !== null).map((point) => {
      const [x, y] = [atX(point.x), atY(point.y)];
      const mark = shapeAt(svg, point.shape, x, y, 4.6, { class: `f-${point.c} s-${point.c} point`, "fill-opacity": point.o ?? 1 });
      tag(mark, point);
      return { x, y, tip: point.tip, mark };
    });
    for (const label of labels) {
      const [x, y] = [atX(label.x), atY(label.y)];
      make(svg, "circle", { cx: x, cy: y, r: 11, class: "centre" });
      make(svg, "text", { x, y: y + 4.5, "text-anchor": "middle", class: "label strong" }, label.text);
    }
    if (points.length) {
      view.follow((event) => {
        const [x, y] = view.place(event);
        let best = null, least = 18 ** 2;
        for (const point of drawn) {
          const apart = (point.x - x) ** 2 + (point.y - y) ** 2;
          if (apart < least && !point.mark.classList.contains("off")) { best = point; least = apart; }
        }
        if (best) view.show(best.tip, best.x, best.y);
        else view.hide();
      });
    } else if (lines.length) {
      const hair = make(svg, "line", { y1: top, y2: bottom, class: "rule", visibility: "hidden" });
      const say = new Map();
      for (const line of lines) line.x.forEach((moment) => say.set(across(moment), moment));
      const stops = [...say.keys()].sort((one, other) => one - other);
      const unit = spec.y.format || "number";
      const leave = () => { hair.setAttribute("visibility", "hidden"); view.hide(); };
      view.follow((event) => {
        const [x, y] = view.place(event);
        const near = stops.reduce((best, stop) => (Math.abs(atX(stop) - x) < Math.abs(atX(best) - x) ? stop : best), stops[0]);
        const words = [spec.x.time ? sayMoment(say.get(near)) : `${near} ${spec.x.title || ""}`];
        for (const line of lines) {
          const index = line.x.findIndex((moment) => across(moment) === near);
          if (index >= 0 && line.y[index] !== null && line.y[index] !== undefined) words.push(`${line.name}: ${formats[unit](line.y[index])}`);
        }
        hair.setAttribute("x1", atX(near));
        hair.setAttribute("x2", atX(near));
        hair.setAttribute("visibility", "visible");
        view.show(words.join("\n"), atX(near), y);
      }, leave);
    }
  };

  const heat = (chart, spec, width) => {
    const longest = Math.max(...spec.rows.map((label) => widthOf(label)), 10);
    const room = Math.min(width * 0.42, longest + 4);
    const left = room + 10;
    const cell = Math.min((width - left - 4) / spec.columns.length, 110), each = 28, top = 44;
    const height = top + spec.rows.length * each + 4;
    const view = frame(chart, width, height);
    const marks = new Map();
    const say = (value) => (value === null ? "–" : formats[spec.format](value));
    make(view.svg, "text", { x: left, y: 14, class: "tick" }, spec.title);
    spec.columns.forEach((label, column) => {
      make(view.svg, "text", { x: left + (column + 0.5) * cell, y: 34, "text-anchor": "middle", class: "label" }, shorten(label, cell));
    });
    spec.rows.forEach((label, row) => {
      const y = top + row * each;
      marks.set(make(view.svg, "text", { x: room, y: y + 18, "text-anchor": "end", class: "label" }, shorten(label, room)), label);
      spec.z[row].forEach((value, column) => {
        const x = left + column * cell;
        const about = { x: x + 1, y: y + 1, width: cell - 2, height: each - 2, rx: 3 };
        const segment = spec.segments && spec.segments.length ? spec.segments[row] : undefined;
        const strength = value === null ? 0 : Math.abs(value) / spec.bound;
        const rect = make(view.svg, "rect", { ...about, class: value < 0 ? "cold" : "warm", "fill-opacity": (0.04 + 0.5 * strength).toFixed(2) });
        marks.set(tag(rect, { segment }), `${label}, ${spec.title} ${spec.columns[column]}: ${say(value)}`);
        const text = say(value);
        if (widthOf(text) < cell) tag(make(view.svg, "text", { x: x + cell / 2, y: y + 18, "text-anchor": "middle", class: "label through" }, text), { segment });
      });
    });
    tips(view, marks);
  };

  const network = (chart, spec, width) => {
    const laid = width >= spec.wide.width * 0.8 ? spec.wide : spec.narrow;
    const scale = Math.min(1, width / laid.width);
    const view = frame(chart, Math.round(laid.width * scale), Math.round(laid.height * scale));
    const { svg } = view;
    svg.setAttribute("viewBox", `0 0 ${laid.width} ${laid.height}`);
    const marks = new Map();
    const boxes = laid.at;
    // Where the line from the middle of a box leaves it.
    const border = ([x, y, w, h], toX, toY, gap) => {
      const [dx, dy] = [toX - x, toY - y];
      const reach = Math.min(dx ? (w / 2 + gap) / Math.abs(dx) : Infinity, dy ? (h / 2 + gap) / Math.abs(dy) : Infinity);
      return [x + dx * Math.min(reach, 1), y + dy * Math.min(reach, 1)];
    };
    const there = new Set(spec.edges.map((edge) => `${edge.a} ${edge.b}`));
    const edges = spec.edges.map((edge) => {
      const [from, to] = [boxes[edge.a], boxes[edge.b]];
      const length = Math.hypot(to[0] - from[0], to[1] - from[1]) || 1;
      const normal = [-(to[1] - from[1]) / length, (to[0] - from[0]) / length];
      // Rules in both directions bend apart.
      const bend = there.has(`${edge.b} ${edge.a}`) ? 9 : 0;
      const [cx, cy] = [(from[0] + to[0]) / 2 + normal[0] * bend * 2, (from[1] + to[1]) / 2 + normal[1] * bend * 2];
      const [x1, y1] = border(from, cx, cy, 1), [x2, y2] = border(to, cx, cy, edge.arrow ? 3 : 0);
      const group = make(svg, "g", { class: "edge" });
      make(group, "path", { d: `M${x1} ${y1}Q${cx} ${cy} ${x2} ${y2}`, class: "s-blue line", "stroke-width": edge.w });
      if (edge.arrow) {
        const turn = Math.atan2(y2 - cy || y2 - y1, x2 - cx || x2 - x1), size = 5 + edge.w;
        const wing = (angle) => `${x2 - size * Math.cos(turn + angle)} ${y2 - size * Math.sin(turn + angle)}`;
        make(group, "path", { d: `M${x2} ${y2}L${wing(0.45)}L${wing(-0.45)}z`, class: "f-blue" });
      }
      // A line is thin to point at: an unseen thick one lies on it.
      const aim = make(group, "path", { d: `M${x1} ${y1}Q${cx} ${cy} ${x2} ${y2}`, class: "aim" });
      marks.set(aim, edge.tip);
      return { ...edge, group };
    });
    boxes.forEach(([x, y, w, h], index) => {
      const node = spec.nodes[index];
      if (!node.label) {
        make(svg, "circle", { cx: x, cy: y, r: 4, class: "f-blue" });
        return;
      }
      const group = make(svg, "g", { class: "node" });
      const rect = make(group, "rect", { x: x - w / 2, y: y - h / 2, width: w, height: h, rx: h / 2 });
      const text = make(group, "text", { x, y: y + 4.5, "text-anchor": "middle", class: "label" }, node.label);
      if (widthOf(node.label, 12.5) > w - 8) {
        text.setAttribute("textLength", w - 10);
        text.setAttribute("lengthAdjust", "spacingAndGlyphs");
      }
      marks.set(rect, node.tip);
      marks.set(text, node.tip);
      // The rules of the item under the pointer stand out, those that meet in a joint whole.
      const joints = new Set(edges.flatMap((edge) => (edge.a === index ? [edge.b] : edge.b === index ? [edge.a] : [])).filter((other) => !spec.nodes[other].label));
      const mine = (edge) => edge.a === index || edge.b === index || joints.has(edge.a) || joints.has(edge.b);
      group.addEventListener("pointerenter", () => edges.forEach((edge) => edge.group.classList.toggle("faint", !mine(edge))));
      group.addEventListener("pointerleave", () => edges.forEach((edge) => edge.group.classList.remove("faint")));
    });
    tips(view, marks);
  };

  document.addEventListener("pointerdown", (event) => {
    const touched = event.target.closest ? event.target.closest(".plot") : null;
    document.querySelectorAll(".plot .tip").forEach((tip) => { if (tip.parentElement !== touched) tip.hidden = true; });
  });

  const kinds = { rows, plane, heat, network };
  const draw = (chart, spec, width) => {
    chart.replaceChildren();
    kinds[spec.kind](chart, spec, Math.max(240, Math.floor(width)));
  };
  return { draw, instant, sayMoment, formats };
})();
