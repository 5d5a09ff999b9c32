/* Draws the report's time series: one shared time axis, cursor and zoom for all charts. */
(function () {
  "use strict";
  const run = JSON.parse(document.getElementById("run").textContent);
  const MINUS = "\u2212", THIN = "\u202f";
  const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const PODS_PER_CYCLE = 6;
  const full = run.span[1] > run.span[0] ? run.span : [run.span[0] - 1800, run.span[0] + 1800];
  let range = full.slice();
  let charts = [];

  function css(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function grouped(value, places) {
    const text = Math.abs(value).toFixed(places).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
    return (value < 0 && /[1-9]/.test(text) ? MINUS : "") + text;
  }

  /* How a unit is written beside a hovered point, and on an axis whose ticks are `step` apart. */
  const written = {
    usd: (v) => grouped(v, run.usd_places),
    percent: (v) => grouped(100 * v, Math.abs(v) >= 1 ? 1 : 2) + THIN + "%",
    ratio: (v) => grouped(v, 2),
    count: (v) => grouped(v, 0),
  };
  function places(step) {
    return Math.min(6, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
  }
  const onAxis = {
    usd: (v, step) => {
      if (step >= 1e6) return grouped(v / 1e6, 0) + "M";
      if (Math.abs(v) >= 1e6) return grouped(v / 1e6, places(step / 1e6)) + "M";
      if (Math.abs(v) >= 1e4 && step >= 100) return grouped(v / 1e3, places(step / 1e3)) + "k";
      return grouped(v, places(step));
    },
    percent: (v, step) => grouped(100 * v, places(100 * step)) + THIN + "%",
    ratio: (v, step) => grouped(v, places(step)),
    count: (v, step) => grouped(v, places(step)),
  };

  function moment(seconds) {
    return new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC";
  }

  /* Tick labels in UTC: months, days or minutes, with the year or the day below where it changes. */
  function timeTicks(u, ticks, axis, space, step) {
    let before = "";
    return ticks.map((seconds) => {
      const d = new Date(seconds * 1000);
      const month = MONTHS[d.getUTCMonth()];
      const year = String(d.getUTCFullYear()), date = d.getUTCDate() + " " + month;
      const upper = step >= 28 * 86400 ? month : step >= 86400 ? date : d.toISOString().slice(11, 16);
      const lower = step >= 86400 ? year : date;
      const label = lower === before ? upper : upper + "\n" + lower;
      before = lower;
      return label;
    });
  }

  function look(line) {
    if (line.role === "total") return { stroke: css("--ink"), width: 1.9 };
    if (line.role === "cash") return { stroke: css("--cash"), width: 1 };
    const cycle = Math.floor(line.pod / PODS_PER_CYCLE);
    const dash = cycle === 0 ? undefined : cycle === 1 ? [5, 3] : [2, 2];
    return { stroke: css("--pod-" + (line.pod % PODS_PER_CYCLE)), width: 1.4, dash: dash };
  }

  /* Names at the right edge of the lines that reach it, pushed apart where they end close together. */
  function labels(lines, tops) {
    return function (u) {
      const dpr = uPlot.pxRatio, gap = 13 * dpr, found = [];
      lines.forEach((line, k) => {
        const s = u.series[k + 1];
        if (line.role === "band" || !s.show) return;
        let i = u.data[0].length - 1;
        while (i > 0 && u.data[0][i] > u.scales.x.max) i--;
        if (tops[k][i] == null) return;
        const y = u.valToPos(tops[k][i], "y", true);
        if (isFinite(y)) found.push({ name: line.name, colour: line.role === "cash" ? css("--soft") : look(line).stroke, y: y });
      });
      const bottom = u.bbox.top + u.bbox.height;
      if (found.length * gap > u.bbox.height + gap) return;
      found.sort((a, b) => a.y - b.y);
      let at = u.bbox.top;
      found.forEach((f) => { f.y = at = Math.max(at, f.y); at += gap; });
      at = bottom;
      for (let k = found.length - 1; k >= 0; k--) { found[k].y = at = Math.min(at, found[k].y); at -= gap; }
      const ctx = u.ctx;
      ctx.save();
      ctx.font = 12 * dpr + "px " + getComputedStyle(document.body).fontFamily;
      ctx.textAlign = "left";
      ctx.textBaseline = "middle";
      found.forEach((f) => {
        ctx.fillStyle = f.colour;
        const name = f.name.length > 13 ? f.name.slice(0, 12) + "\u2026" : f.name;
        ctx.fillText(name, u.bbox.left + u.bbox.width + 8 * dpr, f.y);
      });
      ctx.restore();
    };
  }

  function zeroLine(u) {
    const s = u.scales.y;
    if (!(s.min < 0 && s.max > 0)) return;
    const y = Math.round(u.valToPos(0, "y", true)) + 0.5;
    u.ctx.save();
    u.ctx.strokeStyle = css("--soft");
    u.ctx.lineWidth = uPlot.pxRatio;
    u.ctx.beginPath();
    u.ctx.moveTo(u.bbox.left, y);
    u.ctx.lineTo(u.bbox.left + u.bbox.width, y);
    u.ctx.stroke();
    u.ctx.restore();
  }

  function zoom(min, max) {
    range = [min, max];
    charts.forEach((u) => u.setScale("x", { min: min, max: max }));
  }

  function padded(chart) {
    return function (u, min, max) {
      if (min == null || max == null) return [0, 1];
      if (chart.kind === "stack") return [Math.min(0, min), Math.max(1, max)];
      const room = (max - min || Math.abs(max) || 1) * 0.06;
      return [chart.lowest != null ? chart.lowest : min - room, chart.highest != null ? chart.highest + room / 3 : max + room];
    };
  }

  /* A stack draws running sums, from the whole down to the first part, each covering what lies below it. */
  function stacked(lines) {
    const sums = [];
    lines.forEach((line, k) => {
      sums.push(line.values.map((v, i) => (v || 0) + (k ? sums[k - 1][i] : 0)));
    });
    return sums;
  }

  function options(chart, x, drawn, lines, width, height) {
    const wide = width >= 620;
    const stack = chart.kind === "stack";
    const fmt = written[chart.unit];
    const path = chart.kind === "line" ? uPlot.paths.linear() : uPlot.paths.stepped({ align: 1 });
    const font = "12px " + getComputedStyle(document.body).fontFamily;
    const axis = { stroke: css("--soft"), font: font, grid: { stroke: css("--faint"), width: 1 }, ticks: { show: false } };
    const series = [{ label: "Time", value: (u, v) => moment(v == null ? x[x.length - 1] : v) }];
    const bands = [];
    lines.forEach((line, k) => {
      const style = look(line);
      const s = {
        label: line.name, paths: path, points: { show: x.length < 3 }, spanGaps: false,
        value: (u, v, si, i) => {
          const shown = line.values[i == null ? line.values.length - 1 : i];
          return shown == null ? "\u2013" : fmt(shown);
        },
      };
      if (line.role === "band") {
        s.stroke = "transparent"; s.width = 0;
        if (k === 0) bands.push({ series: [1, 2], fill: css("--band") });
      } else if (stack) {
        const hollow = line.pod >= PODS_PER_CYCLE;
        s.stroke = "transparent";
        s.width = 0;
        s.fill = line.role === "cash" ? css("--cash") + "66" : style.stroke + (hollow ? "66" : "c8");
        if (k > 0) bands.push({ series: [k + 1, k], fill: s.fill });
      } else {
        Object.assign(s, style);
      }
      series.push(s);
    });
    return {
      width: width, height: height, padding: [8, wide ? 100 : 10, 0, 0],
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      scales: { x: { time: true, range: () => range }, y: { range: padded(chart) } },
      axes: [
        Object.assign({ space: wide ? 70 : 60, values: timeTicks }, axis, { grid: { show: false } }),
        Object.assign({ size: 62, space: 26, values: (u, ticks, i, s, step) => ticks.map((v) => onAxis[chart.unit](v, step)) }, axis),
      ],
      series: series, bands: bands,
      legend: { live: true, isolate: false, markers: { width: 2.5, dash: (u, k) => (lines[k - 1].pod >= PODS_PER_CYCLE ? "dashed" : "solid"), stroke: (u, k) => (lines[k - 1].role === "band" ? css("--soft") : look(lines[k - 1]).stroke), fill: "transparent" } },
      cursor: {
        sync: { key: "run", setSeries: false, filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } },
        drag: { x: true, y: false, setScale: false },
        points: { size: 6, show: (u, k) => (stack || lines[k - 1].role === "band" ? false : undefined) },
        bind: { dblclick: () => () => { zoom(full[0], full[1]); return null; } },
      },
      hooks: {
        drawAxes: [stack ? function () {} : zeroLine],
        draw: wide ? [labels(lines, stack ? middles(drawn) : drawn)] : [],
        setSelect: [(u) => {
          if (u.select.width > 6) zoom(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x"));
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        }],
      },
    };
  }

  /* Where a stacked part's name belongs: half way up its own share. */
  function middles(sums) {
    return sums.map((sum, k) => sum.map((v, i) => (v - (k ? sums[k - 1][i] : 0) > 0.004 ? (v + (k ? sums[k - 1][i] : 0)) / 2 : null)));
  }

  function draw(printWidth) {
    charts.forEach((u) => u.destroy());
    charts = [];
    for (const id in run.charts) {
      const place = document.getElementById("chart-" + id);
      if (!place) continue;
      const chart = run.charts[id], x = run.grids[chart.grid], lines = chart.lines;
      const drawn = chart.kind === "stack" ? stacked(lines) : lines.map((line) => line.values);
      const width = printWidth || Math.max(280, place.clientWidth);
      charts.push(new uPlot(options(chart, x, drawn, lines, width, Number(place.dataset.height)), [x].concat(drawn), place));
    }
  }

  let settle = 0, drawnWidth = 0;
  function redraw() {
    drawnWidth = document.body.clientWidth;
    draw();
  }
  window.addEventListener("resize", () => {
    clearTimeout(settle);
    settle = setTimeout(() => { if (document.body.clientWidth !== drawnWidth) redraw(); }, 120);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  window.addEventListener("beforeprint", () => {
    document.documentElement.classList.add("paper");
    document.querySelectorAll("details").forEach((d) => { d.dataset.was = d.open ? "open" : ""; d.open = true; });
    draw(680);
  });
  window.addEventListener("afterprint", () => {
    document.documentElement.classList.remove("paper");
    document.querySelectorAll("details").forEach((d) => { d.open = d.dataset.was === "open"; });
    redraw();
  });
  redraw();
})();
