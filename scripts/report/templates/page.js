// The page's own script: light or dark, figures, and the answers that can be searched. Texts of rows and models are
// only ever put in as text, never as HTML.
(() => {
  "use strict";
  const byId = id => document.getElementById(id);
  const read = id => JSON.parse(byId(id).textContent);
  const make = (tag, attributes, ...children) => {
    const element = Object.assign(document.createElement(tag), attributes);
    element.append(...children);
    return element;
  };

  byId("theme").addEventListener("click", () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const root = document.documentElement;
    root.dataset.theme = (root.dataset.theme ?? (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
  });

  // Figures: what stands in the page is a picture, for print and where no script runs; it becomes interactive where it
  // can be seen, since a folded part has no width.
  const charts = read("charts-data");
  const draw = async figure => {
    const spec = charts[figure.dataset.chart], width = figure.clientWidth;
    if (!spec || !width || figure.dataset.state) return;
    figure.dataset.state = "drawing";
    spec.config.axis.labelLimit = spec.config.legend.labelLimit = Math.min(260, width * 0.4);
    spec.config.axis.titleLimit = width - 60;
    spec.config.legend.columns = Math.max(1, Math.floor(width / 160));
    if (spec.spec) spec.columns = Math.max(1, Math.floor((width - 80) / (spec.spec.width + 30)));
    else spec.width = "container";
    await vegaEmbed(figure, spec, { actions: false, renderer: "svg" });
    figure.dataset.state = "drawn";
  };
  const drawAll = () => document.querySelectorAll("[data-chart]").forEach(draw);
  document.addEventListener("toggle", drawAll, true); // a part was unfolded
  drawAll();

  if (!byId("answers-data")) return;
  const { metric, binary, models, splits, levels, texts, rows } = read("answers-data");
  const served = models.findIndex(model => model.served);
  const bare = text => text.toLowerCase().replace(/\s+/g, ""); // a field drops line breaks from what is pasted
  const searched = texts.map(bare);
  const PAGE = Number(byId("rows").dataset.count);
  const filters = byId("filters");
  let found = [], shown = 0, opponent = served, words = "";

  // A model may be asked only the first rows (`evaluate.untrained_rows`). Without another model there is nothing to win.
  const outcome = row => {
    const own = row.values[served], other = row.values[opponent];
    if (row.answers[served] === null || row.answers[opponent] === null) return "not asked";
    if (own === null || other === null) return "not graded";
    if (opponent === served) return binary ? (own ? "right" : "wrong") : "graded";
    if (own !== other) return own > other ? "won" : "lost";
    return !binary ? "tied" : own ? "tied, both right" : "tied, both wrong";
  };
  const lead = row => row.values[served] - (opponent === served ? 0 : row.values[opponent]);
  const LAST = ["not graded", "not asked"];
  const worstFirst = (a, b) => LAST.indexOf(outcome(a)) - LAST.indexOf(outcome(b)) || lead(a) - lead(b);
  const grade = value =>
    value === null ? "not graded" : binary ? (value ? "✓ right" : "✗ wrong") : `${metric} ${(100 * value).toFixed(1)}%`;

  const marked = text => {
    const pre = make("pre", { dir: "auto" });
    const low = text.toLowerCase();
    let from = 0;
    // a letter whose lower case is longer would move what is marked
    for (let at; words && low.length === text.length && (at = low.indexOf(words, from)) >= 0; from = at + words.length)
      pre.append(text.slice(from, at), make("mark", { textContent: text.slice(at, at + words.length) }));
    pre.append(text.slice(from));
    return pre;
  };
  const block = (title, text) => make("div", {}, make("h4", { textContent: title }), marked(text));
  const answer = (row, model) =>
    row.answers[model] === null
      ? block(`${models[model].name}: not asked`, "")
      : block(`${models[model].name}: ${grade(row.values[model])}`, texts[row.answers[model]]);

  const article = row => {
    const what = outcome(row);
    const level = row.level === null ? "" : `, ${levels[row.level]}`;
    const head = make("h3", { textContent: `${what} · ${splits[row.split]}${level}` });
    const item = make("li", { className: `row ${what === "won" || what === "lost" ? what : ""}` }, head);
    if (row.context !== null) item.append(block("earlier turns", texts[row.context]));
    item.append(block("request", texts[row.prompt]), block("expected", texts[row.response]));
    item.append(make("div", { className: "pair" }, ...[...new Set([served, opponent])].map(model => answer(row, model))));
    const others = models.map((_, model) => model).filter(model => model !== served && model !== opponent);
    if (others.length) {
      const more = make("details", {}, make("summary", { textContent: `The other models (${others.length})` }));
      const fill = () => more.append(make("div", { className: "pair" }, ...others.map(model => answer(row, model))));
      more.addEventListener("toggle", fill, { once: true });
      item.append(more);
    }
    return item;
  };
  const showMore = () => {
    byId("rows").append(...found.slice(shown, shown + PAGE).map(article));
    shown = Math.min(shown + PAGE, found.length);
    byId("more").hidden = shown === found.length;
    byId("more").textContent = `Show more (${found.length - shown} left)`;
  };
  const apply = () => {
    const wanted = Object.fromEntries(new FormData(filters));
    opponent = Number(wanted.opponent ?? served);
    words = wanted.words.trim().toLowerCase();
    const hit = words && new Set(searched.flatMap((text, number) => (text.includes(bare(words)) ? [number] : [])));
    const contains = row => [row.context, row.prompt, row.response, ...row.answers].some(text => hit.has(text));
    found = rows.filter(
      row =>
        (wanted.split === "" || row.split === Number(wanted.split)) &&
        (wanted.level === "" || row.level === Number(wanted.level)) &&
        outcome(row).startsWith(wanted.outcome) &&
        (!words || contains(row)),
    );
    found.sort(worstFirst); // equal ones stay in the order of their ids
    const counts = {};
    for (const row of found) counts[outcome(row)] = (counts[outcome(row)] ?? 0) + 1;
    const told = Object.entries(counts).map(([what, count]) => `${count} ${what}`).join(", ");
    byId("status").textContent = `${found.length} of ${rows.length} rows${told && `: ${told}`}`;
    byId("rows").replaceChildren();
    shown = 0;
    showMore();
  };
  filters.addEventListener("input", apply);
  filters.addEventListener("submit", event => event.preventDefault());
  byId("more").addEventListener("click", showMore);
  apply();
})();
