"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const last = data.times.length - 1;
  const percent = (value) => value.toFixed(1) + "%";
  const kwh = (wh) => (wh / 1000).toFixed(3) + " kWh";
  const price = (utoken) => (utoken === null ? "nothing matched" : (utoken / 1e6).toFixed(4) + " token/kWh");
  const both = (kind, words) => ["green", "brown"].map((of) => `${of} ${words(data.trading[kind][of])}`).join(", ");
  const prices = (kind, i) => both(kind, (series) => price(series.price[i]));
  const volumes = (kind, i) => both(kind, (series) => kwh(series.volume_wh[i]));
  const kw = (wh) => ((4 * wh) / 1000).toFixed(1) + " kW";
  const clamp = (position) => Math.max(0, Math.min(last, position));

  // ------------------------------------------------------------ charts

  const words = {
    loading: (i) =>
      `without flexibility ${percent(data.loading.before[i])} · as metered ${percent(data.loading.after[i])} · ` +
      `forecast ${percent(data.loading.forecast[i])}`,
    energy: (i) =>
      `requested ${kwh(data.energy.requested[i])} · ordered ${kwh(data.energy.ordered[i])} · ` +
      `delivered ${kwh(data.energy.delivered[i])}`,
    expected: (i) =>
      `metered ${kw(data.expected.metered[i])} · without flexibility ${kw(data.expected.undisturbed[i])} · ` +
      `forecast ${kw(data.expected.p50[i])} (${kw(data.expected.p10[i])} to ${kw(data.expected.p90[i])}) · ` +
      `baseline ${kw(data.expected.baseline[i])}`,
    prices: (i) => `day ahead ${prices("day_ahead", i)} · intraday ${prices("intraday", i)}`,
    "volumes-day_ahead": (i) => `${volumes("day_ahead", i)} in this hour`,
    "volumes-intraday": (i) => `${volumes("intraday", i)} in this half hour`,
  };
  const charts = [...document.querySelectorAll(".chart")];
  let pointed = null;

  function tell(output, time, text) {
    const bold = document.createElement("b");
    bold.textContent = time;
    output.replaceChildren(bold, " · " + text);
  }

  function point(position) {
    pointed = clamp(position);
    for (const chart of charts) {
      const cursor = chart.querySelector(".cursor");
      cursor.hidden = false;
      cursor.style.left = `${(100 * (pointed + 0.5)) / data.times.length}%`;
      tell(chart.nextElementSibling, data.times[pointed], words[chart.id](pointed));
    }
  }

  for (const chart of charts) {
    const inner = chart.querySelector(".inner");
    const under = (event) => {
      const box = inner.getBoundingClientRect();
      return Math.floor(((event.clientX - box.left) / box.width) * data.times.length);
    };
    inner.addEventListener("pointermove", (event) => point(under(event)));
    inner.addEventListener("click", (event) => show(clamp(under(event))));
    chart.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -4, PageDown: 4 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      point((pointed ?? Number(slider.value)) + step);
      show(pointed);
    });
  }

  const zoom = document.querySelector(".zoom");
  zoom?.addEventListener("change", () => {
    for (const chart of charts) {
      chart.classList.toggle("zoomed", zoom.checked);
      chart.style.setProperty("--from", zoom.checked ? zoom.dataset.from : 0);
      chart.style.setProperty("--times", zoom.checked ? zoom.dataset.times : 1);
    }
  });

  // ------------------------------------------------------------ map

  const slider = document.getElementById("time");
  const readout = document.getElementById("map-readout");
  const lines = [...document.querySelectorAll("[data-line]")];
  const trafos = [...document.querySelectorAll("[data-trafo]")];
  const state = () => document.querySelector("[name=state]:checked");
  const colour = (loading) => "c" + data.steps.filter((step) => loading > step).length;

  function show(position) {
    const when = state().value;
    slider.value = position;
    slider.setAttribute("aria-valuetext", data.times[position]);
    lines.forEach((line, i) => line.setAttribute("class", "line " + colour(data.lines[i][when][position])));
    trafos.forEach((trafo, i) => trafo.setAttribute("class", "trafo " + colour(data.trafos[i][when][position])));
    const most = data.lines.reduce((a, b) => (b[when][position] > a[when][position] ? b : a), data.lines[0]);
    let text = `${state().parentElement.textContent.trim()} · transformer ${percent(data.loading[when][position])}`;
    if (most) text += ` · most loaded line ${most.name} ${most[when][position]}%`;
    tell(readout, data.times[position], text);
  }

  slider.addEventListener("input", () => show(Number(slider.value)));
  document.querySelectorAll("[name=state]").forEach((radio) => {
    radio.addEventListener("change", () => show(Number(slider.value)));
  });
  document.getElementById("map").addEventListener("pointerover", (event) => {
    const line = event.target.dataset.line;
    if (line === undefined) return;
    const { name, before, after } = data.lines[line];
    const i = Number(slider.value);
    tell(readout, data.times[i], `${name}: ${before[i]}% without flexibility, ${after[i]}% as metered`);
  });

  const play = document.getElementById("play");
  let timer = null;

  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "▶ Play the day";
    play.setAttribute("aria-pressed", "false");
  }

  play.addEventListener("click", () => {
    if (timer !== null) return stop();
    let position = Number(slider.value) === last ? 0 : Number(slider.value);
    play.textContent = "❚❚ Pause";
    play.setAttribute("aria-pressed", "true");
    timer = setInterval(() => (position >= last ? stop() : show(++position)), 150);
  });

  show(Number(slider.value));

  // ------------------------------------------------------------ timeline

  const contract = document.getElementById("contract");
  contract.addEventListener("change", () => {
    for (const row of document.querySelectorAll("[data-contract]")) {
      row.hidden = contract.value !== "" && row.dataset.contract !== contract.value;
    }
  });
})();
