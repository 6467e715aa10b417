"use strict";
// Shows the questions of a run. All data lies in the page: `names` as JSON, and blocks of videos as gzipped JSON in
// base64, `rows` for the list and `full` for the view of a video. Texts are set as text only, never as markup.

const STEP = 500;  // rows of the list that are shown at once
const SVG = "http://www.w3.org/2000/svg", WIDTH = 960;
const names = JSON.parse(document.getElementById("names").textContent);
const marks = Object.fromEntries(Object.entries(names.marks).map(([code, [mark, word, sign]]) => [code, { mark, word, sign }]));
const sources = [...document.querySelectorAll("script.full")];
const form = document.getElementById("filters");
const list = document.getElementById("list"), body = list.querySelector("tbody");
const overview = document.getElementById("overview"), view = document.getElementById("video");
const title = document.title;

const videos = [];  // {name, block, place, rows: first and last row}
const rows = [];  // {id, code, title, labels, read, gold, there, video, words}
const videoNumbers = new Map(), rowNumbers = new Map();
let fitting = [], drawn = 0, listScroll = 0;
let shownVideo = -1, shownBlock = null, latest = 0;

// Elements -----------------------------------------------------------------------------------------------------------

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawing(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const badge = (code) => element("span", { class: `is is-${marks[code].mark}` }, marks[code].word);
const toVideo = (name) => `#video=${encodeURIComponent(name)}`;
const toQuestion = (id) => `#q=${encodeURIComponent(id)}`;

function scrolling(label, child) {
  return element("div", { class: "film", tabindex: "0", role: "region", "aria-label": label }, element("div", {}, ...child));
}

// Data ---------------------------------------------------------------------------------------------------------------

async function unpacked(script) {
  const bytes = Uint8Array.from(atob(script.textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

async function readList() {
  const blocks = await Promise.all([...document.querySelectorAll("script.rows")].map(unpacked));
  blocks.forEach((block, number) => block.forEach(([name, questions], place) => {
    const video = videos.length;
    videoNumbers.set(name, video);
    videos.push({ name, block: number, place, count: questions.length });
    for (const [id, code, title, labels, read, gold, there] of questions) {
      const words = [title, id, name, ...labels].join(" ").toLowerCase();
      rowNumbers.set(id, rows.length);
      rows.push({ id, code, title, labels, read, gold, there, video, words });
    }
  }));
}

async function contentsOf(video) {
  const { block, place } = videos[video];
  if (!shownBlock || shownBlock.number !== block) shownBlock = { number: block, videos: await unpacked(sources[block]) };
  return shownBlock.videos[place];
}

// List ---------------------------------------------------------------------------------------------------------------

function changed(change, here, there) {
  if (there === "-") return false;
  if (change === "gained") return here === "right" && marks[there].mark !== "right";
  if (change === "lost") return here !== "right" && marks[there].mark === "right";
  return here !== marks[there].mark;
}

function listRow(row, other) {
  const name = videos[row.video].name;
  const ask = element("td", { class: "ask" }, element("a", { href: toQuestion(row.id) }, row.title),
    element("small", {}, [row.id, name, ...row.labels].join(" · ")));
  const made = element("tr", { "data-mark": marks[row.code].mark }, element("td", {}, badge(row.code)), ask,
    element("td", { class: "answer" }, row.read), element("td", { class: "answer" }, row.gold));
  if (other !== "") {
    const there = row.there[other];
    made.append(element("td", {}, ...(there === "-" ? [] : [badge(there)])));
  }
  return made;
}

function drawMore() {
  const other = new FormData(form).get("other") || "";
  body.append(...fitting.slice(drawn, drawn + STEP).map((row) => listRow(row, other)));
  drawn = Math.min(drawn + STEP, fitting.length);
  const more = document.getElementById("more"), left = fitting.length - drawn;
  more.hidden = !left;
  more.textContent = `Show ${Math.min(STEP, left).toLocaleString("en")} more`;
}

function applyFilters() {
  const values = Object.fromEntries(new FormData(form));
  const needle = values.text.trim().toLowerCase();
  const other = values.other || "";
  const change = other === "" ? "" : values.change;
  fitting = rows.filter((row) => (!values.mark || marks[row.code].mark === values.mark) &&
    (!needle || row.words.includes(needle)) && (!change || changed(change, marks[row.code].mark, row.there[other])));
  document.getElementById("shown").value = `${fitting.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
  document.getElementById("there").hidden = other === "";
  if (form.elements.change) form.elements.change.disabled = other === "";
  body.replaceChildren();
  drawn = 0;
  drawMore();
}

// Video --------------------------------------------------------------------------------------------------------------

function timeline(video) {
  let at = 0;
  const ticks = video.ticks.map((step) => `M${(at += step) / 10},0V10`).join("");
  const last = video.labels.length - 1;
  const labels = video.labels.map(([x, label], i) => drawing("text",
    { x, y: 26, "text-anchor": i === 0 ? "start" : i === last ? "end" : "middle" }, label));
  const svg = drawing("svg", { viewBox: `0 0 ${WIDTH} 32`, "aria-hidden": "true" },
    drawing("path", { class: "stroke", d: ticks }), drawing("line", { class: "axis", x1: 0, x2: WIDTH, y1: 11, y2: 11 }), ...labels);
  const alt = `frames that the model saw, evenly picked from ${video.frames}`;
  const strip = video.strip ? [element("img", { src: video.strip, alt })] : [];
  return scrolling("frames on a timeline", [...strip, svg]);
}

function spans(question) {
  const rects = question.spans.map(([x, width, kind, title]) => drawing("rect",
    { class: ["dense", "pooled", "skipped"].includes(kind) ? kind : "", x, y: 0, width: Math.max(width - 1, 0.6), height: 12 },
    drawing("title", {}, title)));
  const label = (question.lines || []).join(" ");
  return scrolling("chunks of the video",
    [drawing("svg", { viewBox: `0 0 ${WIDTH} 12`, role: "img", "aria-label": label }, ...rects)]);
}

function otherRuns(question) {
  const chips = question.others.map(([number, code, extracted]) => {
    const run = names.others[number], { mark, word, sign } = marks[code];
    const link = { class: `is is-${mark}`, href: run.page + toQuestion(question.id), title: `${word}: ${run.title}` };
    return element("li", {}, element("a", link, `${run.letter} ${sign} ${extracted}`));
  });
  return [element("h4", {}, "Other runs"), element("ul", { class: "chips" }, ...chips)];
}

const titled = (name, text) => text === undefined ? [] : [element("h4", {}, name), element("pre", {}, text)];

function article(question) {
  const facts = question.facts.flatMap(([name, value, more]) =>
    [element("dt", {}, name), element("dd", {}, value, ...(more ? [" ", element("span", { class: "soft" }, more)] : []))]);
  const groups = [question.id, ...(question.groups || [])].map((text) => ` · ${text}`).join("").slice(2);
  const parts = [element("h2", {}, question.title), element("p", { class: "groups" }, badge(question.mark), groups)];
  if (question.error) {
    const [kind, message] = question.error;
    parts.push(element("p", { class: "error" }, element("b", {}, kind), ` ${message}`));
  }
  if (question.spans) parts.push(spans(question));
  parts.push(...(question.lines || []).map((line) => element("p", { class: "note" }, line)));
  parts.push(element("div", { class: "said" }, element("div", {}, ...titled("Prompt", question.prompt)),
    element("div", {}, ...titled("Reply", question.reply), element("dl", {}, ...facts), ...(question.others ? otherRuns(question) : []))));
  const made = element("article", {}, ...parts);
  made.dataset.question = question.id;
  return made;
}

function drawVideo(number, video) {
  const { name } = videos[number];
  const head = element("header", { class: "top" }, element("h1", {}, name), element("p", { class: "soft" }, video.said));
  if (video.ticks) head.append(timeline(video));
  view.replaceChildren(head, ...video.questions.map(article));
  document.title = `${name} · ${title}`;
  for (const [rel, to] of [["prev", number - 1], ["next", number + 1]]) {
    const link = document.querySelector(`a[rel=${rel}]`);
    link.hidden = !videos[to];
    if (videos[to]) link.href = toVideo(videos[to].name);
  }
}

// Address ------------------------------------------------------------------------------------------------------------

function fail(message) {
  const place = document.getElementById("failure");
  place.textContent = message;
  place.hidden = !message;
}

async function show() {
  const call = ++latest;
  const [kind, ...rest] = location.hash.slice(1).split("=");
  const name = decodeURIComponent(rest.join("="));
  const question = kind === "q" ? rows[rowNumbers.get(name)] : undefined;
  const number = question ? question.video : kind === "video" ? videoNumbers.get(name) : undefined;
  const wanted = kind === "q" || kind === "video";
  fail(wanted && number === undefined ? `This run has no ${kind === "q" ? "question" : "video"} "${name}".` : "");
  const listed = number === undefined;
  if (!listed && shownVideo !== number) {
    const video = await contentsOf(number);
    if (call !== latest) return;  // the address changed meanwhile
    drawVideo(number, video);
  }
  if (!overview.hidden) listScroll = scrollY;
  shownVideo = listed ? -1 : number;
  overview.hidden = !listed;
  view.hidden = listed;
  document.getElementById("to-list").hidden = listed;
  if (listed) {
    document.title = title;
    for (const link of document.querySelectorAll(".turn a")) link.hidden = true;
    scrollTo(0, listScroll);
    return;
  }
  for (const other of view.querySelectorAll("article")) {
    const target = Boolean(question) && other.dataset.question === question.id;
    other.classList.toggle("target", target);
    if (target) other.scrollIntoView();
  }
  if (!question) scrollTo(0, 0);
}

const shown = () => show().catch((error) => fail(`The data of this page cannot be shown (${error}). Make the report again.`));

form.addEventListener("input", applyFilters);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(applyFilters));
document.getElementById("more").addEventListener("click", drawMore);
addEventListener("hashchange", shown);
document.addEventListener("keydown", (event) => {  // the left and right arrows turn to the previous and next video
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || document.activeElement !== document.body) return;
  const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  const link = rel && document.querySelector(`a[rel=${rel}]:not([hidden])`);
  if (link) location.hash = link.hash;
});

readList().then(() => {
  form.hidden = list.hidden = false;
  applyFilters();
  return show();
}).then(() => { document.body.dataset.ready = "true"; })
  .catch((error) => fail(`The data of this page cannot be read (${error}). Use a current browser, or make the report again.`));
