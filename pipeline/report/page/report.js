// The report's own script: sliders, examples and their filter. It loads nothing, and no text of a
// pair becomes markup: all of it goes through textContent.
"use strict";

// Without prototypes: a reason or a column of somebody else's dataset may be called constructor.
const plain = (_, value) => value && typeof value === "object" && !Array.isArray(value) ? Object.setPrototypeOf(value, null) : value;
const data = JSON.parse(document.getElementById("data").textContent, plain);
// A page in the folder of its dataset knows by its own address where that is.
const here = location.protocol === "file:" && decodeURIComponent(location.pathname.replace(/\/[^/]*$/, ""));
const OUT = data.out || here || "OUT";
const CARDS_AT_ONCE = 24;
const number = (n) => n.toLocaleString("en-US");
const byId = (id) => document.getElementById(id);

/** An element with its class and its children, which are elements or plain texts. */
function make(name, className, ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

function isolated(text) {
  const element = make("bdi", "", text);
  element.dir = "auto";
  return element;
}

// ---- One pair -----------------------------------------------------------------------------

function whyOf(pair) {
  if (!pair.reason) return "";
  return pair.detail ? `${pair.reason}: ${pair.detail}` : pair.reason;
}

/** What is measured of a pair on an axis; undefined where it was not. */
const valueOn = (pair, axis) => pair.values?.[axis];

/** The value that a rule judges, in a few words. */
function measureOf(pair, rule) {
  const axis = rule && data.thresholds[rule].axis;
  const value = axis && valueOn(pair, axis);
  return value === undefined ? "" : `${value}${data.measures[axis][1]}`;
}

const RULE_OF = new Map(Object.values(data.thresholds).map(({ rule, reason }) => [reason, rule]));

function pictureOf(pair) {
  const image = document.createElement("img");
  image.src = `data:image/jpeg;base64,${pair.picture}`;
  image.alt = "";
  image.decoding = "async";
  return image;
}

function cardOf(pair, rule) {
  const frame = make("span", "frame");
  if (pair.picture) frame.append(pictureOf(pair));
  else frame.append(pair.reason ? "no image is kept" : "no thumbnail");
  const why = whyOf(pair);
  const value = measureOf(pair, rule || RULE_OF.get(pair.reason));
  const size = pair.width ? `${pair.width}×${pair.height}` : "";
  const body = make("span", "body");
  if (why || value) body.append(make("span", "why", isolated([why, value].filter(Boolean).join(" · "))));
  body.append(make("span", "text", isolated(pair.text || "(no text)")));
  body.append(make("span", "meta", isolated([size, pair.host].filter(Boolean).join(" · "))));
  const card = make("button", pair.blurred ? "card unsafe" : "card", frame, body);
  card.type = "button";
  card.addEventListener("click", () => openPair(pair));
  return card;
}

function rowsOf(pair) {
  return [
    ["text", pair.text], ["dropped for", whyOf(pair)], ["URL", pair.url], ["key", pair.key],
    ["size", pair.width && `${pair.width}×${pair.height} px`],
    ...Object.entries(pair.values || {}).map(([axis, value]) => {
      const [name, unit] = data.measures[axis] || [axis, ""];
      return [name, `${value}${unit}`];
    }),
    ["evaluation image", pair.near], ["recorded in", pair.shard],
  ].filter(([, value]) => value !== undefined && value !== "" && value !== false);
}

const quoted = (text) => `'${text.replace(/'/g, "''")}'`;

/** Where the very pair is: a query and a line of Python. */
function waysTo(pair) {
  const [kind, shard] = (pair.shard || "").split("-");
  const folder = { images: "shards", holdout: "holdout" }[kind];
  if (!folder && kind !== "text") return [];
  const stem = `${OUT}/${pair.reason ? `rejected/${pair.shard}` : `${folder || "pairs"}/${shard}`}`;
  const query = ["DuckDB", `select * from ${quoted(`${stem}.parquet`)} where key = '${pair.key}';`];
  if (pair.reason || !folder) return [query];
  const tar = JSON.stringify(`${stem}.tar`);
  const opened = OUT.includes("://") ? `fsspec.open(${tar}).open()` : `open(${tar}, "rb")`;
  const python = [
    `import io, tarfile${OUT.includes("://") ? ", fsspec" : ""}; from PIL import Image`,
    `tar = tarfile.open(fileobj=${opened})`,
    `parts = {m.name.rpartition(".")[2]: tar.extractfile(m).read() for m in tar if m.name.startswith("${pair.key}.")}`,
    `print(parts.pop("txt").decode(), parts.pop("json").decode())`,
    `Image.open(io.BytesIO(parts.popitem()[1])).show()`,
  ];
  return [query, ["Python", python.join("; ")]];
}

function copyButton(text, label) {
  const button = make("button", "small", label);
  button.type = "button";
  button.addEventListener("click", () => copy(text(), button));
  return button;
}

/** Copies a text; from file: some browsers have no clipboard, so the old way is tried too. */
async function copy(text, button) {
  const before = button.textContent;
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", "", text);
    (document.querySelector("dialog[open]") || document.body).append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
  }
  button.textContent = done ? "Copied" : "Select it and copy";
  setTimeout(() => { button.textContent = before; }, 1200);
}

function openPair(pair) {
  const dialog = byId("pair");
  const title = make("h2", "", pair.reason ? "A dropped pair" : "A kept pair");
  title.id = "pair-title";
  const close = make("button", "small", "Close");
  close.type = "button";
  close.addEventListener("click", () => dialog.close());
  const values = make("dl", "values");
  for (const [name, value] of rowsOf(pair)) {
    values.append(make("dt", "", name), make("dd", "", isolated(String(value))));
  }
  const right = make("div", "", values, make("p", "row", copyButton(() => pair.key, "Copy the key"), copyButton(() => pair.url, "Copy the URL")));
  for (const [name, line] of waysTo(pair)) {
    right.append(make("p", "eyebrow", name), make("pre", "", line), copyButton(() => line, `Copy for ${name}`));
  }
  const left = make("div", "", pair.picture ? pictureOf(pair) : "");
  dialog.replaceChildren(make("header", "", title, close), make("div", "one", left, right));
  opened = pair;
  if (!dialog.open) dialog.showModal();
  remember();
}

// ---- What is chosen stands in the address, so that a link opens it ------------------------

const FIELDS = ["near-rule", "why", "words", "host", "axis", "from", "to", "order"];
let opened = null; // the pair in the dialog
let section = "";
const stages = [];
const idOf = (pair) => `${pair.key} ${pair.reason || ""} ${pair.shard || ""}`;
const allSliders = () => stages.flatMap((stage) => stage.sliders);

function remember(of) {
  section = of || section;
  const said = new URLSearchParams();
  for (const id of FIELDS) {
    const field = byId(id);
    if (field && field.value && !(id === "near-rule" && !field.selectedIndex)) said.set(id, field.value);
  }
  for (const { input, rule, edges, own } of allSliders()) {
    if (Number(input.value) !== own) said.set(rule, edges[input.value]);
  }
  if (opened) said.set("pair", idOf(opened));
  try {
    history.replaceState(null, "", `#${section}${said.size ? `?${said}` : ""}`);
  } catch { /* a page without an address of its own */ }
}

function recall() {
  const at = location.hash.indexOf("?");
  if (at < 0) return;
  const said = new URLSearchParams(location.hash.slice(at + 1));
  section = location.hash.slice(1, at);
  for (const id of FIELDS) {
    const field = byId(id);
    if (field) field.value = said.get(id) || (id === "near-rule" ? field.options[0].value : "");
    if (field && field.selectedIndex === -1) field.selectedIndex = 0;
  }
  for (const { input, rule, edges, own } of allSliders()) {
    const place = said.has(rule) ? edges.indexOf(Number(said.get(rule))) : own;
    input.value = place < 0 ? own : place;
  }
  stages.forEach(update);
  if (byId("near-rule")) showNear();
  filter();
  if (byId(section)) byId(section).scrollIntoView({ behavior: "instant" });
  const pair = said.has("pair") && data.examples.find((example) => idOf(example) === said.get("pair"));
  if (pair) openPair(pair);
}

// ---- Lists of pairs -----------------------------------------------------------------------

const listed = (name) => (data.lists[name] || []).map((place) => data.examples[place]);

/** Shows pairs in a grid, a screenful at a time. */
function fill(grid, more, pairs, rule) {
  let shown = 0;
  const next = () => {
    const part = pairs.slice(shown, shown + CARDS_AT_ONCE);
    shown += part.length;
    grid.append(...part.map((pair) => cardOf(pair, rule)));
    if (more) more.hidden = shown >= pairs.length;
  };
  grid.replaceChildren();
  if (more) more.onclick = next;
  next();
}

function showNear() {
  const chosen = byId("near-rule").selectedOptions[0];
  const grids = byId("near").querySelectorAll(".cards");
  [chosen.dataset.kept, chosen.dataset.dropped].forEach((name, side) => {
    const pairs = listed(name);
    fill(grids[side], null, pairs, chosen.value);
    if (!pairs.length) grids[side].append(make("p", "about", "None was recorded on this side."));
  });
  const [kept, dropped] = [chosen.dataset.kept, chosen.dataset.dropped].map((name) => listed(name).length);
  byId("near-told").textContent = `${kept} kept and ${dropped} dropped of a sample, the nearest first.`;
}

const reasonsOf = () =>
  Object.keys(data.lists).filter((name) => !name.startsWith("near:") && data.lists[name].length);

function fillReasons() {
  const select = byId("why");
  select.append(new Option("everything", ""));
  for (const name of reasonsOf()) {
    select.append(new Option(`${name} (${data.lists[name].length})`, name));
  }
}

function filter() {
  const why = byId("why").value;
  const words = byId("words").value.toLowerCase();
  const host = byId("host").value.toLowerCase();
  const [from, to] = ["from", "to"].map((id) => byId(id).value);
  const axis = byId("axis").value;
  const value = axis && ((pair) => valueOn(pair, axis));
  const within = (pair) => value(pair) !== undefined &&
    (from === "" || value(pair) >= Number(from)) && (to === "" || value(pair) <= Number(to));
  const pairs = (why ? listed(why) : data.examples).filter((pair) =>
    (!words || `${pair.text}\n${pair.url}\n${pair.key}`.toLowerCase().includes(words)) &&
    (!host || (pair.host || "").includes(host)) && (!value || within(pair)));
  const order = byId("order").value;
  if (value && order) pairs.sort((one, other) => (order === "up" ? 1 : -1) * (value(one) - value(other)));
  byId("matched").textContent = `${number(pairs.length)} of ${number(data.examples.length)} examples`;
  fill(byId("matches"), byId("matches-more"), pairs);
}

/** Shows some of the examples: those with these values of the fields, and no others. */
function showThose(values) {
  for (const id of FIELDS.slice(1)) byId(id).value = values[id] || "";
  filter();
  remember("examples");
  byId("examples").scrollIntoView();
  byId("why").focus({ preventScroll: true });
}

function showBar(event) {
  const bar = event.target.closest("[data-from]");
  if (!bar) return;
  const { from, to } = bar.dataset;
  const axis = bar.closest("svg").dataset.measure;
  showThose({ axis, from, to: Number(to) < 1e12 ? to : "" });
}

// ---- Other thresholds ---------------------------------------------------------------------

function stageOf(element) {
  const stage = { element, ...data[element.dataset.stage], isTexts: element.dataset.stage === "texts" };
  stage.sliders = [...element.querySelectorAll("input")].map((input) => ({
    input,
    rule: input.dataset.rule,
    axis: input.dataset.axis,
    edges: input.dataset.edges.split(" ").map(Number),
    first: Number(input.dataset.first),
    own: Number(input.getAttribute("value")),
  }));
  return stage;
}

/** Whether a bin passes a rule whose threshold is at this place of its slider; so does no value. */
function passes(stage, slider, bin, at) {
  const place = at + slider.first;
  if (bin > stage.axes[slider.axis].length) return true;
  return data.thresholds[slider.rule].keeps_above ? bin > place : bin <= place;
}

const isMoved = (slider, at) => at !== slider.own;
const isLooser = (slider, at) => isMoved(slider, at) && data.thresholds[slider.rule].keeps_above === at < slider.own;

/** Counts the pairs that pass at these places of the sliders; `unsure` were not judged further. By
 * one threshold alone they are counted, by several they are those of a sample. */
function countAt(stage, places) {
  const moved = stage.sliders.filter((slider, n) => isMoved(slider, places[n]));
  const open = stage.sliders.some((s, n) => isLooser(s, places[n]) && data.thresholds[s.rule].open);
  const total = { kept: 0, unsure: 0, about: moved.length > 1 && stage.weight > 1 };
  const add = (count, now, before) => {
    if (now) total.kept += count;
    if (now && open && !before) total.unsure += count;
  };
  if (moved.length < 2) {
    const slider = moved[0] || stage.sliders[0];
    const at = places[stage.sliders.indexOf(slider)];
    for (const [bin, count] of Object.entries(stage.alone[slider.rule] || {})) {
      add(count, passes(stage, slider, Number(bin), at), passes(stage, slider, Number(bin), slider.own));
    }
    return total;
  }
  const bins = stage.sliders.map((slider) => stage.bins[slider.axis] || []);
  for (let row = 0; row < stage.rows; row++) {
    const passed = (at) => stage.sliders.every((s, n) => passes(stage, s, bins[n][row], at(s, n)));
    add(stage.weight, passed((s, n) => places[n]), passed((s) => s.own));
  }
  return { ...total, kept: Math.round(total.kept), unsure: Math.round(total.unsure) };
}

/** A word of a command, which may hold any text of a stranger's dataset. */
const inShell = (text) => /^[\w@%+=:,.\/-]+$/.test(text) ? text : `'${text.replace(/'/g, `'"'"'`)}'`;

function commandOf(moved) {
  const names = moved.map(({ rule }) => rule);
  const words = data.command.map((word) => word.replace(/^--input=OUT$/, () => `--input=${inShell(OUT)}`));
  const kept = words.filter((word) => !names.some((name) => word.startsWith(`${inShell(`--${name}`)}=`)));
  const loosened = moved.filter((slider) => isLooser(slider, Number(slider.input.value)));
  const flags = moved.map(({ rule, edges, input }) => `${inShell(`--${rule}`)}=${edges[input.value]}`);
  return { line: [...kept, ...flags].join(" "), loosened: loosened.length > 0 };
}

function update(stage) {
  const places = stage.sliders.map(({ input }) => Number(input.value));
  const own = stage.sliders.map((slider) => slider.own);
  stage.sliders.forEach((slider) => {
    const value = slider.edges[slider.input.value];
    const shown = value === data.thresholds[slider.rule].opened ? "off" : String(value);
    slider.input.previousElementSibling.textContent = shown;
    slider.input.setAttribute("aria-valuetext", shown);
  });
  const before = countAt(stage, own);
  const now = countAt(stage, places);
  const change = now.kept - before.kept;
  const moved = stage.sliders.filter(({ input, own: place }) => Number(input.value) !== place);
  const [big, soft] = stage.element.querySelectorAll(".outcome p");
  const goesOn = stage.isTexts && !data.textOnly; // to the rules of images
  const most = `${now.about ? "about " : ""}${now.unsure && moved.length ? "up to " : ""}`;
  const what = goesOn ? ["pass all rules of texts", "would pass all rules of texts"] : ["are kept", "would be kept"];
  big.textContent = `${most}${number(now.kept)} pairs ${what[moved.length ? 1 : 0]}`;
  soft.textContent = moved.length ? toldOf(stage, change, before.kept, now) : "These are the run's own thresholds.";
  const isCrossed = (low, high) => low.axis === high.axis && data.thresholds[low.rule].keeps_above &&
    !data.thresholds[high.rule].keeps_above && low.edges[low.input.value] > high.edges[high.input.value];
  const crossed = stage.sliders.some((low) => stage.sliders.some((high) => isCrossed(low, high)));
  if (crossed) soft.textContent = "Nothing is above the one and below the other: no run takes these thresholds.";
  const { line, loosened } = commandOf(moved);
  const pre = stage.element.querySelector("pre");
  pre.textContent = moved.length ? line : "";
  for (const part of stage.element.querySelectorAll(".outcome pre, .outcome .row, [data-note]")) part.hidden = !moved.length;
  pre.hidden = pre.hidden || crossed;
  if (!moved.length || crossed || data.textOnly) return;
  soft.textContent += loosened ? " Only images that may come back are fetched." : " Nothing is fetched.";
}

function toldOf(stage, change, before, { unsure, about }) {
  const share = before ? ` (${(100 * change / before).toFixed(1)} %)` : "";
  const sign = change > 0 ? "+" : "";
  let told = `${sign}${number(change)}${share} against the run.`;
  if (unsure) {
    told += ` ${number(unsure)} of them were not judged by the rules that come after, so some may still go.`;
  }
  if (about) told += " Several thresholds at once are counted in a sample.";
  else if (!unsure) told += " The count is exact.";
  if (stage.isTexts && !data.textOnly) told += " The rules of images come after.";
  return told;
}

function startStage(element) {
  const stage = stageOf(element);
  stages.push(stage);
  const moved = () => { update(stage); remember("thresholds"); };
  stage.sliders.forEach(({ input }) => input.addEventListener("input", moved));
  element.querySelector("[data-reset]").addEventListener("click", () => {
    stage.sliders.forEach((slider) => { slider.input.value = slider.own; });
    moved();
  });
  const button = element.querySelector("[data-copy]");
  button.addEventListener("click", () => copy(element.querySelector("pre").textContent, button));
  update(stage);
}

// ---- Begin --------------------------------------------------------------------------------

for (const button of document.querySelectorAll("[data-list]")) {
  button.addEventListener("click", () => showThose({ why: button.dataset.list }));
}
for (const chart of document.querySelectorAll("svg[data-measure]")) chart.addEventListener("click", showBar);
for (const element of document.querySelectorAll("[data-stage]")) startStage(element);
if (byId("near-rule")) {
  byId("near-rule").addEventListener("change", () => { showNear(); remember("thresholds"); });
  showNear();
}
fill(byId("grid"), byId("grid-more"), listed("kept").slice(0, 96));
fillReasons();
for (const id of FIELDS.slice(1)) {
  byId(id).addEventListener("input", () => { filter(); remember("examples"); });
}
byId("pair").addEventListener("click", (event) => {
  if (event.target === byId("pair")) byId("pair").close();
});
byId("pair").addEventListener("close", () => { opened = null; remember(); });
addEventListener("hashchange", recall);
filter();
recall();
