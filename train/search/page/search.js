"use strict";

// The query is a list of terms, each {kind: "text" | "key" | "picture", value, weight, image}. The
// first text is what stands in the large field; the others are chips. A link has all of them.
// `unsafe` has, by key, whether an image of the index is: a chip shows those alone that are not.
const $ = (id) => document.getElementById(id);
const PAGE = 24;
const FILTERS = ["host", "caption", "min_side", "max_side"];
const state = {
  terms: [], next: null, asked: 0, shown: new Set(), unsafe: new Map(), parameters: "",
  speaker: 0, // the search whose words stand in the status line; 0 is the user's own entry
};
// The node of each term. It is kept from search to search: a new one would lose the focus, and
// with it what is being typed.
const chips = new WeakMap();

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function say(text, wrong = false, speaker = 0) {
  state.speaker = speaker;
  $("status").textContent = text;
  $("status").classList.toggle("wrong", wrong);
}

// Between the fields, the terms and the link.

function mainTerm() {
  const value = $("text").value.trim();
  return value ? [{ kind: "text", value, weight: 1 }] : [];
}

function parametersOf(terms) {
  const parameters = new URLSearchParams();
  for (const { kind, value, weight } of terms) {
    parameters.append(kind, value);
    parameters.append(`${kind}_weight`, String(weight));
  }
  for (const name of FILTERS) {
    const value = $(name).value.trim();
    if (value) parameters.set(name, value);
  }
  if ($("all").checked) parameters.set("fold", "false");
  return parameters;
}

function readLink() {
  const parameters = new URLSearchParams(location.search);
  const terms = [];
  for (const kind of ["text", "key", "picture"]) {
    const weights = parameters.getAll(`${kind}_weight`);
    parameters.getAll(kind).forEach((value, number) => {
      const weight = Number(weights[number] ?? 1);
      const known = state.terms.find((term) => term.value === value);
      const { image, name } = known ?? {};
      terms.push({ kind, value, weight: Number.isFinite(weight) ? weight : 1, image, name });
    });
  }
  const first = terms.findIndex((term) => term.kind === "text" && term.weight === 1);
  $("text").value = first < 0 ? "" : terms[first].value;
  state.terms = terms.filter((_, number) => number !== first);
  for (const name of FILTERS) $(name).value = parameters.get(name) ?? "";
  $("all").checked = parameters.get("fold") === "false";
  $("filters").open = $("all").checked || FILTERS.some((name) => $(name).value);
  drawTerms();
}

function drawTerms() {
  const items = state.terms.map((term) => {
    if (!chips.has(term)) chips.set(term, chip(term));
    const item = chips.get(term);
    mark(item, term);
    return item;
  });
  const list = $("terms");
  for (const item of [...list.children]) if (!items.includes(item)) item.remove();
  items.forEach((item, place) => {
    if (list.children[place] !== item) list.insertBefore(item, list.children[place] ?? null);
  });
}

// The sign of a chip follows its weight, and its image may come later than the chip.
function mark(item, term) {
  item.className = term.weight < 0 ? "away" : "";
  const sign = item.querySelector(".sign");
  sign.textContent = term.weight < 0 ? "−" : "+";
  const source = imageOf(term);
  if (source && !item.querySelector("img")) sign.after(make("img", { src: source, alt: "" }));
}

function nameOf(term) {
  return term.kind === "text" ? term.value : term.name || "an image";
}

function imageOf(term) {
  if (term.kind !== "key") return term.image;
  if (!state.unsafe.has(term.value) || state.unsafe.get(term.value)) return false;
  return `thumbnails/${encodeURIComponent(term.value)}`;
}

function chip(term) {
  const item = make("li");
  const sign = make("span", { className: "sign" });
  sign.setAttribute("aria-hidden", "true");
  item.append(sign);
  item.append(make("span", { className: "name", textContent: nameOf(term), title: nameOf(term) }));
  const numbers = { min: -10, max: 10, step: 0.25, value: term.weight };
  const weight = make("input", { type: "number", ...numbers });
  weight.setAttribute("aria-label", `Weight of ${nameOf(term)}`);
  weight.addEventListener("change", () => {
    const value = Number(weight.value);
    if (!value || Math.abs(value) > 10) {
      weight.value = term.weight;
      say("A weight is a number other than 0 from -10 to 10.", true);
      return;
    }
    term.weight = value;
    search();
  });
  const remove = make("button", { type: "button", textContent: "×" });
  remove.setAttribute("aria-label", `Remove ${nameOf(term)}`);
  remove.addEventListener("click", () => {
    state.terms = state.terms.filter((other) => other !== term);
    $("text").focus();
    search();
  });
  item.append(weight, remove);
  return item;
}

// Asking the server.

async function asked(url, options) {
  const response = await fetch(url, options);
  let answer;
  try {
    answer = await response.json();
  } catch {
    answer = { error: `the server answered with status ${response.status}` };
  }
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function search({ keepLink = false } = {}) {
  const terms = [...mainTerm(), ...state.terms];
  drawTerms();
  state.asked += 1;
  state.next = null;
  state.shown.clear();
  $("more").hidden = true;
  if (!terms.length) {
    if (!keepLink) history.pushState(null, "", location.pathname);
    document.title = "Search images";
    welcome(state.asked);
    return;
  }
  const parameters = parametersOf(terms);
  state.parameters = parameters.toString();
  if (!keepLink) history.pushState(null, "", `?${state.parameters}`);
  document.title = `${terms.map(nameOf).join(", ")} – search`;
  $("hint").hidden = true;
  say("Searching …", false, state.asked);
  load(0, state.asked);
}

async function welcome(number) {
  $("hint").hidden = false;
  $("results").replaceChildren();
  say("");
  try {
    const { sample } = await described;
    note(sample);
    if (number === state.asked) $("results").replaceChildren(...sample.map(card));
  } catch (error) {
    if (number === state.asked) say(`${error.message}.`, true);
  }
}

// What the server says of images: chips that had to wait for it get them.
function note(results) {
  const waits = (term) => term.kind === "key" && !state.unsafe.has(term.value);
  const waiting = state.terms.filter(waits);
  results.forEach(({ key, unsafe }) => state.unsafe.set(key, unsafe));
  if (waiting.some((term) => !waits(term))) drawTerms();
}

async function load(offset, number) {
  state.next = null;
  try {
    const answer = await asked(`api/search?${state.parameters}&offset=${offset}&limit=${PAGE}`);
    if (number !== state.asked) return; // another search has begun
    note(answer.results);
    const items = answer.results.filter(({ key }) => !state.shown.has(key)).map(card);
    answer.results.forEach(({ key }) => state.shown.add(key));
    if (offset) $("results").append(...items);
    else {
      $("results").replaceChildren(...items);
      scrollTo(0, 0);
    }
    state.next = answer.next_offset;
    $("more").hidden = state.next === null;
    const count = $("results").children.length;
    const ms = Math.max(1, Math.round(answer.took_ms));
    const found = count ? `${count}${state.next === null ? "" : "+"} images, in ${ms} ms`
      : "Nothing fits these filters: leave one out.";
    // Results that arrive late do not replace the line about a wrong entry.
    if (state.speaker === number) say(found, false, number);
    if (state.next !== null && nearEnd()) load(state.next, number);
  } catch (error) {
    if (number !== state.asked) return;
    if (!offset) $("results").replaceChildren();
    say(`${error.message}.`.replace(/\.\.$/, "."), true, number);
    $("more").hidden = !offset;
    state.next = offset || null;
  }
}

// What is shown.

function card(result) {
  const caption = result.caption || "without a caption";
  const item = make("li");
  const ratio = Math.min(2.4, Math.max(0.7, result.width / result.height));
  item.style.setProperty("--ratio", ratio.toFixed(3));
  item.append(make("figure", {}, pictureOf(result, caption), factsOf(result)));
  item.append(steering(result, caption));
  return item;
}

function pictureOf(result, caption) {
  const className = `picture${result.unsafe ? " unsafe" : ""}`;
  const button = make("button", { type: "button", className });
  const lazy = { alt: "", loading: "lazy", decoding: "async" };
  button.append(make("img", { src: result.thumbnail, ...lazy }));
  const label = () => button.setAttribute("aria-label", button.classList.contains("unsafe")
    ? "Show an image that may be unsafe (NSFW)" : `More like: ${caption}`);
  if (result.unsafe) {
    const textContent = "may be unsafe: click to show";
    button.append(make("span", { className: "veil", textContent }));
  }
  label();
  button.addEventListener("click", () => {
    if (button.classList.contains("unsafe")) {
      button.classList.remove("unsafe");
      label();
      return;
    }
    $("text").value = "";
    state.terms = [{ kind: "key", value: result.key, weight: 1, name: caption }];
    search();
  });
  return button;
}

function steering({ key }, caption) {
  const steer = make("div", { className: "steer" });
  for (const [sign, weight, meaning] of [
    ["+", 1, "Add this image to the query"], ["−", -1, "Remove this image from the query"],
  ]) {
    const one = make("button", { type: "button", textContent: sign, title: meaning });
    one.setAttribute("aria-label", `${meaning}: ${caption}`);
    one.addEventListener("click", () => add({ kind: "key", value: key, weight, name: caption }));
    steer.append(one);
  }
  return steer;
}

function factsOf({ caption, score, folded, url, host }) {
  const facts = make("span", { className: "facts" });
  if (score !== null) {
    facts.append(make("span", { textContent: score.toFixed(3), title: "cosine" }));
  }
  if (folded) facts.append(make("span", { textContent: `and ${folded} like it` }));
  if (/^https?:\/\//i.test(url)) {
    const aside = { target: "_blank", rel: "noopener noreferrer" };
    facts.append(make("a", { href: url, textContent: host || "source", ...aside }));
  }
  const text = { className: "caption", textContent: caption, title: caption, dir: "auto" };
  return make("figcaption", {}, make("span", text), facts);
}

function add(term) {
  state.terms = [...state.terms.filter(({ value }) => value !== term.value), term];
  search();
}

function refine(weight) {
  const value = $("refinement").value.trim();
  if (!value) {
    $("refinement").focus();
    say("Write what to add or to take away, such as snow.", true);
    return;
  }
  $("refinement").value = "";
  add({ kind: "text", value, weight });
}

async function searchByPicture(file) {
  if (!file.type.startsWith("image/")) {
    say("That is not an image: use a JPEG, PNG, WebP, GIF, AVIF, TIFF or BMP.", true);
    return;
  }
  if (file.size > 16 * 1024 * 1024) {
    say("The image has more than 16 MiB: use a smaller one.", true);
    return;
  }
  say("Reading the image …");
  state.asked += 1;
  const number = state.asked;
  try {
    const headers = { "Content-Type": "application/octet-stream" };
    const { picture } = await asked("api/pictures", { method: "POST", body: file, headers });
    if (number !== state.asked) return;
    const image = URL.createObjectURL(file);
    const term = { kind: "picture", value: picture, weight: 1, image, name: file.name };
    state.terms = [...state.terms.filter(({ kind }) => kind === "text"), term];
    search();
  } catch (error) {
    if (number === state.asked) say(`${error.message}.`, true);
  }
}

// Hands and keys.

function nearEnd() {
  return innerHeight + scrollY > document.documentElement.scrollHeight - 700;
}

function loadMore() {
  if (state.next !== null) load(state.next, state.asked);
}

$("query").addEventListener("submit", (event) => {
  event.preventDefault();
  if (document.activeElement === $("refinement")) { refine(1); return; }
  if (document.activeElement.closest("#terms")) return; // a weight's own event has begun a search
  if (!mainTerm().length && !state.terms.length) {
    say("The query is empty: describe an image, or drop one.", true);
    $("text").focus();
    return;
  }
  search();
});
$("plus").addEventListener("click", () => refine(1));
$("minus").addEventListener("click", () => refine(-1));
$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  if ($("file").files.length) searchByPicture($("file").files[0]);
  $("file").value = "";
});
for (const name of [...FILTERS, "all"]) {
  $(name).addEventListener("change", () => {
    if (mainTerm().length || state.terms.length) search();
  });
}
$("more").addEventListener("click", loadMore);
const soon = (entries) => { if (entries[0].isIntersecting) loadMore(); };
new IntersectionObserver(soon, { rootMargin: "700px" }).observe($("more"));
addEventListener("popstate", () => { readLink(); search({ keepLink: true }); });
addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
  if (file) { event.preventDefault(); searchByPicture(file); }
});
addEventListener("dragenter", (event) => {
  if (event.dataTransfer.types.includes("Files")) $("drop").hidden = false;
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("drop").hidden = true;
});
addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").hidden = true;
  const [file] = event.dataTransfer.files;
  if (file) searchByPicture(file);
  else say("Only files can be dropped: save the image first.", true);
});
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const writing = event.target.matches("input, textarea");
  const unwritten = event.target.id === "text" && !event.target.value;
  if (event.key === "/" && (!writing || unwritten)) {
    event.preventDefault();
    $("text").focus();
    $("text").select();
  } else if (event.key === "Escape" && !writing) $("text").focus();
});

const described = asked("api/index");
described.then(({ pictures, model, search: kind, recall_at_10: recall }) => {
  const how = kind === "exact" ? "searched exactly" : `recall@10 ${recall.toFixed(3)}`;
  $("about").textContent = `${pictures.toLocaleString("en")} images · ${model} · ${how}`;
}).catch(() => {});
readLink();
search({ keepLink: true });
if (!location.search) $("text").focus();
