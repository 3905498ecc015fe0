"use strict";
// The page of `interp serve`: settings on top, three texts side by side, a sweep under a slider. Talks to this server only.
const $ = id => document.getElementById(id);
const TOKEN = "interp-token";
const COLUMNS = ["unsteered", "steered", "random"];
// What a slider of coefficients spans, by unit; the number beside it takes any.
const SPANS = { residual: [1, 0.05], unit: [20, 0.5], raw: [5, 0.1] };
const FIELDS = ["prompt", "directions", "direction_of", "operation", "layer", "coefficient-number", "units", "tokens", "keep_norm",
  "when", "side", "limit", "max_new_tokens", "temperature", "top_p", "seed", "random_seed", "colour", "colour-layer", "from", "to", "steps"];
const NAMED = { "coefficient-number": "coefficient", "colour-layer": "colour_layer" };  // their names in a link
const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 3, signDisplay: "exceptZero" });
const signed = x => NUMBER.format(Math.abs(x) < 0.0005 ? 0 : x).replace("-", "−");

let info, stop, texts = {}, shown = new Set(), swept = [], restoring = false;

/* The server */

class Refused extends Error {}

const GONE = "The server is gone. Start interp serve again, and open the address that it prints.";

function tell(message) {
  $("alert").textContent = message.split("\n")[0];
  $("alert").hidden = !message;
}

async function ask(path, body, signal) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem(TOKEN)}` };
  if (body) headers["Content-Type"] = "application/json";
  let reply;
  try {
    reply = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refused(GONE);
  }
  if (reply.ok) return reply;
  const said = await reply.json().catch(() => ({}));
  if (reply.status === 401) login();
  throw new Refused(said.error?.message || `The server answered ${reply.status}.`);
}

async function* events(path, body, signal) {
  const reply = await ask(path, { ...body, stream: true }, signal);
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = "", parts; ;) {
    let read;
    try {
      read = await reader.read();
    } catch (error) {
      throw error.name === "AbortError" ? error : new Refused(GONE);
    }
    if (read.done) throw new Refused("The server stopped in the middle of a text.");
    [rest, parts] = (all => [all.pop(), all])((rest + read.value).split("\n\n"));
    for (const part of parts) {
      const data = part.slice("data: ".length);
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Refused(event.error.message);
      yield event;
    }
  }
}

function login() {
  $("login").hidden = false;
  document.querySelector("main").hidden = true;
  $("token").focus();
}

/* What the controls say */

const form = () => document.querySelector("[name=form]:checked").value;
const held = name => [...info.directions, ...info.probes].find(each => each.name === (name ?? $("directions").value));
const layer = () => held()?.layers[+$("layer").value] ?? "";
const amount = id => {
  const input = $(id), value = input.valueAsNumber;
  if (Number.isFinite(value) && input.validity.valid) return value;
  if (input.closest("details")) input.closest("details").open = true;
  input.focus();
  throw new Refused(`${named(input)}: ${input.validationMessage || "give a number"}`);
};
const named = input => input.getAttribute("aria-label") || input.labels[0].textContent.trim();

function messages() {
  return [...$("messages").children].map(item => ({ role: item.querySelector("select").value, content: item.querySelector("textarea").value }));
}

function given() {
  if (form() === "chat") return { messages: messages() };
  return { prompt: form() === "problem" ? `Problem: ${$("prompt").value}\n\n` : $("prompt").value };
}

function request() {
  const asked = given(), empty = (asked.messages?.at(-1).content ?? $("prompt").value).trim() === "";
  if (empty) throw new Refused("Prompt: empty; write at least one word.");
  return { ...asked, model: info.model, max_tokens: amount("max_new_tokens"), temperature: amount("temperature"), top_p: amount("top_p"), seed: amount("seed") };
}

const steerable = () => info.directions.length > 0;

function steering(random) {
  const like = $("direction_of").value;
  const made = { directions: $("directions").value, direction_of: random ? "random" : like, layers: [layer()], operation: $("operation").value, tokens: $("tokens").value };
  if ($("operation").value !== "ablate") Object.assign(made, { coefficient: amount("coefficient-number"), units: $("units").value });
  if ($("keep_norm").checked && !$("keep_norm").disabled) made.keep_norm = true;
  const { name, label } = $("when").selectedOptions[0].dataset;
  if (name) Object.assign(made, { when: name, [$("side").value]: amount("limit"), when_class: label });
  return random ? { ...made, like, seed: amount("random_seed") } : made;
}

function summary() {
  const [operation, units] = [$("operation").value, $("units").value], size = $("coefficient-number").valueAsNumber;
  const much = operation === "ablate" ? "" : ` ${signed(size)} ${units === "unit" ? "" : units}`.trimEnd();
  const kept = $("keep_norm").checked && operation === "add" ? ", norm kept" : "";
  const gate = $("when").value && ` where ${$("when").selectedOptions[0].dataset.label} is ${$("side").value} ${$("limit").value}`;
  return `${operation} ${$("direction_of").value}${much}, layer ${layer()}${kept}${gate}`;
}

/* Three texts side by side */

async function write() {
  const asked = request(), path = asked.messages ? "/v1/chat/completions" : "/v1/completions";
  const steered = steerable() && steering(false), random = steerable() && steering(true);
  const columns = steerable() ? COLUMNS : ["unsteered"], which = steerable() ? "Three texts" : "The text";
  stop?.abort();
  const { signal } = stop = new AbortController();
  tell("");
  busy(true, `Writing ${which.toLowerCase()} …`);
  texts = {};
  const told = await Promise.allSettled(columns.map(async column => {
    const part = $(column), box = part.querySelector(".text"), count = part.querySelector(".count");
    const text = texts[column] = { written: "", asked };
    box.replaceChildren();
    count.textContent = "";
    box.setAttribute("aria-busy", "true");
    const node = box.appendChild(document.createTextNode(""));
    const changes = { unsteered: {}, steered: { steering: steered }, random: { steering: random } }[column];
    try {
      for await (const event of events(path, { ...asked, ...changes, stream_options: { include_usage: true } }, signal)) {
        const choice = event.choices[0];
        node.data = text.written += choice?.delta?.content ?? choice?.text ?? "";
        text.ended = choice?.finish_reason ?? text.ended;
        text.n = event.usage?.completion_tokens ?? text.n;
      }
      await colour(column);
    } finally {
      box.removeAttribute("aria-busy");
    }
  }));
  for (const column of COLUMNS) count(column);
  shown.add("texts");
  keep();
  if (stop.signal === signal) busy(false, ended(told, `${which} written.`));
}

const ENDED = { length: "cut at the limit", timeout: "cut by the clock", overflow: "stopped: the steering made the numbers overflow" };

function count(column) {
  const text = texts[column], all = [];
  if (!text?.ended) return;
  if (text.n !== undefined) all.push(`${text.n} token${text.n === 1 ? "" : "s"}`);
  if (ENDED[text.ended]) all.push(ENDED[text.ended]);
  if (column !== "unsteered" && texts.unsteered?.ended && text.written === texts.unsteered.written) all.push("the same as unsteered");
  $(column).querySelector(".count").textContent = all.join(", ");
  const more = document.createElement("button");
  more.type = "button";
  more.textContent = "Reply";
  more.setAttribute("aria-label", `Reply to the text ${column === "random" ? "of the random direction" : column}`);
  more.addEventListener("click", () => reply(text));
  $(column).querySelector("button")?.remove();
  if (text.asked.messages) $(column).append(more);
}

/** What came of several requests, in words; the first refusal goes into the alert. */
function ended(told, well) {
  const failed = told.filter(each => each.status === "rejected").map(each => each.reason);
  const refused = failed.find(reason => reason instanceof Refused);
  if (refused) tell(refused.message);
  const bug = failed.find(reason => !(reason instanceof Refused) && reason.name !== "AbortError");
  if (bug) throw bug;
  return refused ? "Not written." : failed.length ? "Stopped." : well;
}

function busy(on, said) {
  $("run").disabled = $("sweep").disabled = on;
  $("stop").disabled = !on;
  $("status").textContent = said;
  if (!on) fit();
}

/** Runs what a button asks for; what the user or the server got wrong stands in the alert. */
const guarded = action => async event => {
  event?.preventDefault();
  const at = document.activeElement;
  try {
    await action();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    tell(error.message);
  }
  if (document.activeElement === document.body && at?.isConnected) at.focus();
};

/* Colours */

function coloured() {
  const chosen = $("colour").selectedOptions[0];
  if (!chosen?.value) return null;
  const name = chosen.dataset.name ?? $("directions").value, label = chosen.dataset.label ?? $("direction_of").value;
  return { name, label, layer: held(name).layers[+$("colour-layer").value] };
}

async function colour(column) {
  const text = texts[column], by = coloured();
  if (by && text?.written && text.read?.directions !== by.name) {
    const { messages, prompt } = text.asked;
    const body = { directions: by.name, text: text.written, ...(messages ? { messages } : { prompt }) };
    text.read = { ...await (await ask("/api/tokens", body)).json(), directions: by.name };
  }
  paint();
}

async function recolour() {
  await Promise.all(COLUMNS.map(column => texts[column]?.ended && colour(column)));
  paint();
}

function paint() {
  const by = coloured(), read = by ? COLUMNS.map(column => texts[column]?.read).filter(each => each?.directions === by.name) : [];
  const place = each => each.layers.indexOf(by.layer), scaled = each => x => x / each.lengths[place(each)];
  const values = each => each.values[each.labels.indexOf(by.label)][place(each)].map(scaled(each));
  const most = Math.max(0, ...read.flatMap(each => values(each).slice(each.n_prompt).map(Math.abs)));
  const bound = Math.max(0, ...read.map(each => scaled(each)(each.bounds[place(each)]))), end = Math.max(most, bound) || 1;
  $("legend").hidden = !read.length;
  if (read.length) {
    const [low, , high] = $("legend").querySelectorAll("span"), band = $("legend").querySelector("i").style;
    [low.textContent, high.textContent] = [signed(-end), signed(end)];
    band.left = band.right = `${50 - 50 * bound / end}%`;
    const of = read[0].scores ? `the probe's weights for ${by.label}` : by.label;
    $("legend").querySelector(".note").textContent = `Projection on ${of} at layer ${by.layer}, in mean lengths of the activations, as the unsteered model reads the text. Bars: 95 % of the projections on random directions lie between them; tokens beyond are underlined.`;
  }
  for (const column of COLUMNS) {
    const text = texts[column], box = $(column).querySelector(".text");
    if (!text?.ended) continue;
    if (!read.includes(text.read)) {
      box.textContent = text.written;
      continue;
    }
    const at = [...box.children].indexOf(document.activeElement);
    const scores = text.read.scores?.[text.read.labels.indexOf(by.label)].slice(text.read.n_prompt);
    const score = held(by.name).classes?.length ? "probability" : "score";
    box.replaceChildren(...values(text.read).slice(text.read.n_prompt).map((value, i) => {
      const token = document.createElement("span");
      token.className = Math.abs(value) > bound ? "token beyond" : "token";
      token.textContent = text.read.tokens[text.read.n_prompt + i];
      token.tabIndex = i ? -1 : 0;
      token.dataset.says = `${JSON.stringify(token.textContent)}: ${signed(value)} along ${by.label}, layer ${by.layer}${scores ? `; ${score} ${scores[i].toFixed(2)}` : ""}`;
      token.style.setProperty("--toward", value < 0 ? "var(--minus)" : "var(--plus)");
      token.style.setProperty("--much", `${Math.round(100 * Math.abs(value) / end)}%`);
      return token;
    }));
    box.children[at]?.focus();
  }
}

function point(token) {
  $("tip").hidden = !token;
  for (const other of document.querySelectorAll("[aria-describedby=tip]")) other.removeAttribute("aria-describedby");
  if (!token) return;
  $("tip").textContent = token.dataset.says;
  token.setAttribute("aria-describedby", "tip");
  const { left, bottom, top } = token.getBoundingClientRect(), { offsetWidth, offsetHeight } = $("tip");
  $("tip").style.left = `${Math.max(8, Math.min(left, document.documentElement.clientWidth - offsetWidth - 8))}px`;
  $("tip").style.top = `${bottom + offsetHeight + 6 < innerHeight ? bottom + 6 : top - offsetHeight - 6}px`;
}

/** Arrows go from token to token; Tab reaches each text once. */
function step(event) {
  const token = event.target.closest(".token"), all = token && [...token.parentElement.children];
  const to = token && { ArrowRight: token.nextElementSibling, ArrowLeft: token.previousElementSibling, Home: all[0], End: all.at(-1) }[event.key];
  if (event.key === "Escape") point(null);
  if (!to) return;
  event.preventDefault();
  token.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
}

/* A sweep */

function coefficients() {
  const [from, to, n] = [amount("from"), amount("to"), amount("steps")];
  return Array.from({ length: n }, (_, i) => +(from + (to - from) * i / (n - 1)).toPrecision(6));
}

async function sweep() {
  const { coefficient, ...how } = steering(false), values = coefficients();
  const body = { ...request(), steering: how, coefficients: values };
  stop?.abort();
  const { signal } = stop = new AbortController();
  tell("");
  busy(true, `Writing ${values.length} texts …`);
  swept = values.map(value => ({ coefficient: value, written: "" }));
  const wanted = coefficient, nearest = swept.reduce((best, each, i) => Math.abs(each.coefficient - wanted) < Math.abs(swept[best].coefficient - wanted) ? i : best, 0);
  $("swept").hidden = false;
  $("at").max = values.length - 1;
  $("at").value = restoring ? restoring.get("at") ?? nearest : nearest;
  const middle = values.indexOf(0);
  document.querySelector(".ticks").replaceChildren(...values.map((value, i) => {
    const tick = document.createElement("span");
    if ([0, middle, values.length - 1].includes(i)) tick.textContent = signed(value);
    return tick;
  }));
  const told = await Promise.allSettled([(async () => {
    for await (const event of events("/api/sweep", body, signal)) {
      const choice = event.choices[0], text = choice && swept[choice.index];
      if (!text) continue;
      text.written += choice.delta?.content ?? choice.text ?? "";
      text.ended = choice.finish_reason ?? text.ended;
      if (choice.index === +$("at").value) show();
    }
  })()]);
  show();
  shown.add("sweep");
  keep();
  if (stop.signal === signal) busy(false, ended(told, `${values.length} texts written.`));
}

function show() {
  const text = swept[$("at").value], plain = swept.find(each => each.coefficient === 0)?.written ?? "";
  if (!text) return;
  let same = 0;
  while (text.written && text.written[same] === plain[same] && same < text.written.length) same++;
  const [begins, goes] = [document.createElement("span"), document.createTextNode(text.written.slice(same))];
  begins.className = "same";
  begins.textContent = text.written.slice(0, same);
  $("at-text").replaceChildren(begins, goes);
  $("at-said").textContent = signed(text.coefficient);
  $("at").setAttribute("aria-valuetext", signed(text.coefficient));
  const all = [text.ended ? ENDED[text.ended] : "still writing"];
  if (text.coefficient && plain) all.push(text.written === plain ? "the same as unsteered" : same ? "grey: as unsteered" : "");
  $("swept").querySelector(".count").textContent = all.filter(Boolean).join(", ");
}

/* Links and commands */

function state() {
  const kept = new URLSearchParams({ form: form() });
  if (form() === "chat") kept.set("messages", JSON.stringify(messages().map(each => [each.role, each.content])));
  for (const id of FIELDS)
    if (!(id === "prompt" && form() === "chat")) kept.set(NAMED[id] ?? id, id === "layer" ? layer() : id === "keep_norm" ? $(id).checked : $(id).value);
  if (shown.size) kept.set("shown", [...shown].join(" "));
  if (shown.has("sweep")) kept.set("at", $("at").value);
  return kept;
}

/** The address restores what the page shows. */
function keep() {
  history.replaceState(null, "", `#${state()}`);
  $("link").textContent = location.href;
}

const remember = later(300, keep);

/** A function that runs once, some milliseconds after it was last asked for. */
function later(wait, action) {
  let timer;
  return () => { clearTimeout(timer); timer = setTimeout(action, wait); };
}

async function restore() {
  const kept = new URLSearchParams(location.hash.slice(1)), first = info.directions[0];
  // Directions of a debate's agents come with a model that knows problems; others are taken to chat.
  const usual = first?.labels.some(label => /^agent \d/.test(label)) ? "problem" : info.chat ? "chat" : "text";
  const chosen = document.querySelector(`[name=form][value="${CSS.escape(kept.get("form") ?? usual)}"]:enabled`);
  if (chosen) chosen.checked = true;
  $("messages").replaceChildren();
  let given = [["user", ""]];
  try {
    given = JSON.parse(kept.get("messages") ?? "null") ?? given;
  } catch {
    tell("Link: its messages cannot be read; copy the link again.");
  }
  for (const [role, content] of given) add(String(role), String(content));
  put("directions", kept.get("directions"));
  if (steerable()) choose();
  for (const id of FIELDS.filter(id => !["directions", "layer", "colour-layer"].includes(id))) put(id, kept.get(NAMED[id] ?? id));
  const place = (held()?.layers ?? []).indexOf(+(kept.get("layer") || NaN));
  if (place >= 0) $("layer").value = place;
  fit();
  $("colour-layer").value = kept.get("colour_layer") ?? $("layer").value;
  fit();
  const again = (kept.get("shown") ?? "").split(" ");
  restoring = kept;
  for (const part of again.filter(part => ["texts", "sweep"].includes(part))) shown.add(part);  // while they are written
  if (again.includes("texts")) await guarded(write)();
  if (again.includes("sweep") && steerable()) await guarded(sweep)();
  restoring = false;
}

/** Sets a control to a value from a link, if it can take it. */
function put(id, value) {
  const input = $(id), before = input.value;
  if (value === null) return;
  input.checked = value === "true";
  input.value = value;
  if (input.tagName === "SELECT" && input.selectedIndex < 0 || input.type === "number" && input.value === "") input.value = before;
}

async function commands(swept) {
  const { coefficient, ...how } = steering(false);
  const body = { ...request(), ...(swept ? { steering: how, coefficients: coefficients() } : { steering: { coefficient, ...how } }) };
  const made = await (await ask("/api/command", body)).json();
  if (swept) return made;
  for (const kind of ["command", "python"]) $(kind).textContent = made[kind] || "Only Python can do this.";
  return made;
}

async function copy(kind, text, said, place) {
  const what = kind === "python" ? "Python" : kind[0].toUpperCase() + kind.slice(1);
  if (!text) {
    said.textContent = "Only Python can do this.";
    return;
  }
  try {
    await navigator.clipboard.writeText(text);
    said.textContent = `${what} copied.`;
  } catch {
    place.textContent = text;
    place.closest("details").open = true;
    said.textContent = "This browser does not let the page copy; select the text below.";
  }
}

/* Controls that depend on each other */

function option(value, text, data = {}) {
  const made = new Option(text ?? value, value);
  Object.assign(made.dataset, data);
  return made;
}

function add(role = "user", content = "") {
  const item = document.createElement("li"), n = $("messages").children.length + 1;
  const [who, what, gone] = ["select", "textarea", "button"].map(tag => item.appendChild(document.createElement(tag)));
  who.append(option("system"), option("user"), option("assistant"));
  who.value = role;
  who.setAttribute("aria-label", `Role of message ${n}`);
  what.value = content;
  what.rows = role === "system" ? 1 : 2;
  what.setAttribute("aria-label", `Message ${n}`);
  gone.type = "button";
  gone.textContent = "Remove";
  gone.setAttribute("aria-label", `Remove message ${n}`);
  gone.addEventListener("click", () => {
    const left = messages().filter((_, i) => $("messages").children[i] !== item);
    $("messages").replaceChildren();
    for (const each of left) add(each.role, each.content);
    $("messages").querySelector("li:last-child textarea").focus();
    changed();
  });
  $("messages").append(item);
  for (const each of $("messages").querySelectorAll("button")) each.hidden = $("messages").children.length === 1;
  return what;
}

function reply({ asked, written }) {
  $("messages").replaceChildren();
  for (const each of [...asked.messages, { role: "assistant", content: written }]) add(each.role, each.content);
  document.querySelector("[name=form][value=chat]").checked = true;
  fit();
  add().focus();
  changed();
}

/** The labels of several files, to choose one. */
function grouped(files) {
  return files.map(({ name, labels, classes }) => {
    const group = document.createElement("optgroup");
    group.label = classes ? `${name} (probe)` : name;
    group.append(...labels.map(label => option(`${name}: ${label}`, label, { name, label })));
    return group;
  });
}

/** After another file of directions was chosen. */
function choose() {
  const file = held(), before = $("direction_of").value;
  $("direction_of").replaceChildren(...file.labels.map(label => option(label)));
  if (file.labels.includes(before)) $("direction_of").value = before;
  $("layer").max = file.layers.length - 1;
  $("layer").value = Math.max(0, file.layers.indexOf(file.best_layers[0]));
}

/** Everything that follows from what the controls say. */
function fit() {
  const chat = form() === "chat", ablated = $("operation").value === "ablate";
  $("messages").hidden = $("more-messages").hidden = !chat;
  $("single").hidden = chat;
  document.querySelector("#single label").textContent = form() === "problem" ? "Problem, as debates open with it" : "Text that the model goes on from";
  for (const id of ["coefficient", "coefficient-number", "units"]) $(id).disabled = ablated;
  $("keep_norm").disabled = $("operation").value !== "add";
  if ($("stop").disabled) $("sweep").disabled = ablated || !steerable();
  const file = held($("colour").selectedOptions[0]?.dataset.name);
  $("colour-layer").disabled = !$("colour").value;
  if (file) {
    $("colour-layer").max = file.layers.length - 1;
    said("colour-layer", file);
  }
  if (!steerable()) return;
  const [most, by] = SPANS[$("units").value] ?? SPANS.unit, slider = $("coefficient");
  [slider.min, slider.max, slider.step] = [-most, most, by];
  slider.value = $("coefficient-number").value;
  said("layer", held());
  $("side").disabled = $("limit").disabled = !$("when").value;
  $("limit").min = $("limit").max = "";
  if (held($("when").selectedOptions[0].dataset.name).classes?.length) [$("limit").min, $("limit").max] = [0, 1];
  $("steered").querySelector(".what").textContent = summary();
}

function said(id, { layers }) {
  const at = layers[+$(id).value];
  $(`${id}-said`).textContent = at;
  $(id).setAttribute("aria-valuetext", `layer ${at}`);
}

function changed() {
  fit();
  remember();
}

function fill() {
  $("login").hidden = true;
  document.querySelector("main").hidden = false;
  tell("");
  $("model").textContent = info.model;
  document.title = `Steer ${info.model}`;
  const read = info.context_length ? `, ${info.context_length.toLocaleString("en")} tokens at most` : "";
  $("facts").textContent = [`${info.n_layers} layers${read}`, info.source, ...info.notes].filter(Boolean).join("; ");
  document.querySelector("[name=form][value=chat]").disabled = !info.chat;
  $("directions").replaceChildren(...info.directions.map(each => option(each.name)));
  $("file-field").hidden = info.directions.length < 2;
  for (const [id, all] of [["operation", info.operations], ["units", info.units], ["tokens", info.tokens]])
    $(id).replaceChildren(...all.map(each => option(each)));
  const { defaults, limits } = info;
  for (const [id, name] of [["operation", "operation"], ["units", "units"], ["tokens", "tokens"], ["temperature", "temperature"], ["top_p", "top_p"], ["coefficient-number", "coefficient"], ["max_new_tokens", "max_tokens"]])
    $(id).value = defaults[name];
  $("max_new_tokens").max = limits.max_tokens;
  $("steps").max = Math.min(41, limits.texts);
  $("gate").hidden = !info.probes.length;
  $("when").replaceChildren(option("", "anywhere"), ...grouped(info.probes));
  $("colour").replaceChildren(...(steerable() ? [option("steered", "as steered")] : []), option("", "nothing"), ...grouped(info.directions), ...grouped(info.probes));
  for (const id of ["steered", "random", "copy-command", "copy-python"]) $(id).hidden = !steerable();
  if (!steerable()) tell("No directions: start interp serve with --directions FILE to steer.");
}

async function connect() {
  info = await (await ask("/api/info")).json();
  fill();
  await restore();
}

/* Begin */

const address = new URL(location.href);
if (address.searchParams.has("token")) {
  sessionStorage.setItem(TOKEN, address.searchParams.get("token"));
  history.replaceState(null, "", address.pathname + address.hash);  // so that no copy of the address carries it
}
$("login").addEventListener("submit", guarded(async () => {
  const typed = $("token").value.trim();
  sessionStorage.setItem(TOKEN, typed.match(/[?&]token=([^&#\s]+)/)?.[1] ?? typed);
  $("token").value = "";
  await connect();
}));
$("controls").addEventListener("submit", guarded(write));
$("controls").addEventListener("keydown", event => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("run").disabled) $("controls").requestSubmit();
});
$("stop").addEventListener("click", () => stop?.abort());
$("sweep").addEventListener("click", guarded(sweep));
$("more-messages").addEventListener("click", () => {
  add(messages().at(-1)?.role === "user" ? "assistant" : "user").focus();
  changed();
});
$("copy-link").addEventListener("click", () => {
  const link = `${location.origin}${location.pathname}#${state()}`;
  history.replaceState(null, "", link);
  $("link").textContent = link;
  copy("link", link, $("copied"), $("link"));
});
for (const kind of ["command", "python"]) {
  for (const [id, swept] of [["copy", false], ["sweep", true]])
    $(`${id}-${kind}`).addEventListener("click", guarded(async () =>
      copy(kind, (await commands(swept))[kind], $(swept ? "swept-copied" : "copied"), $(kind))));
  $(kind).closest("details").addEventListener("toggle", event => event.target.open && guarded(() => commands(false))());
}
$("coefficient").addEventListener("input", () => { $("coefficient-number").value = $("coefficient").value; });
$("directions").addEventListener("change", choose);
$("units").addEventListener("change", () => {
  const [most] = SPANS[$("units").value] ?? SPANS.unit;
  [$("from").value, $("to").value] = [-most / 2, most / 2];
  changed();
});
$("at").addEventListener("input", show);
document.addEventListener("input", event => {
  if (!info || $("login").contains(event.target)) return;
  if (["layer", "colour"].includes(event.target.id) && $("colour").value === "steered") {
    fit();  // the file has as many layers again
    $("colour-layer").value = $("layer").value;
  }
  changed();
  if (["colour", "colour-layer", "layer", "direction_of", "directions"].includes(event.target.id)) guarded(recolour)();
});
for (const kind of ["pointerover", "focusin"])
  document.addEventListener(kind, event => point(event.target.closest?.(".token")));
document.addEventListener("keydown", step);
addEventListener("hashchange", () => info && restore());
if (sessionStorage.getItem(TOKEN)) guarded(connect)();
else {
  login();
  tell("Token: missing; give the address that interp serve printed.");
}
