"use strict";

const byId = (id) => document.getElementById(id);
const form = byId("form"), audio = byId("audio"), wave = new Wave(byId("wave"));
const rows = new Map();
const ENDS = { completed: "finished", failed: "failed" };
const STATES = {
  waiting: "in line",
  pending: "queued",
  processing: "in progress",
  failed: "failed",
};
let songs = [], current = null, isFirstSnapshot = true, shownAt = 0;
let mine = sessionStorage.getItem("mine"), startsAt = null, budget = null, isToBeSeen = false;

const clock = (seconds) => {
  const whole = Math.max(0, Math.round(seconds || 0));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
};
const audioUrl = (song) => `/api/songs/${encodeURIComponent(song.key)}/audio`;
const now = () => performance.now() / 1000;

// Screen readers get at most one message every 5 s. Messages about ends are queued,
// of those about progress only the latest is kept.
const live = { ends: [], progress: "", lastAt: -Infinity, timer: 0 };

function say(message, isEnd) {
  if (isEnd) live.ends.push(message);
  else live.progress = message;
  if (!live.timer) {
    const wait = Math.max(0, live.lastAt + 5.2 - now());
    live.timer = setTimeout(speak, wait * 1000);
  }
}

function speak() {
  live.timer = 0;
  live.lastAt = now();
  byId("live").textContent = live.ends.splice(0).join(" ") || live.progress;
  live.progress = "";
}

// The form.

function formValues() {
  const values = {};
  for (const [name, text] of new FormData(form)) {
    if (!text.trim()) continue;
    const isNumber = ["duration", "bpm", "seed"].includes(name);
    values[name] = isNumber ? Number(text) : text;
  }
  return values;
}

function showProblems(problems) {
  let first = null;
  for (const field of form.elements) {
    if (!field.name) continue;
    const problem = problems[field.name] || "";
    byId(`${field.name}-problem`).textContent = problem && `Must be ${problem}.`;
    if (problem) {
      field.setAttribute("aria-invalid", "true");
      const details = field.closest("details");
      if (details) details.open = true;
      first = first || field;
    } else field.removeAttribute("aria-invalid");
  }
  if (first) first.focus();
}

async function make() {
  const button = byId("make"), alert = byId("form-problem");
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  alert.textContent = "";
  try {
    const response = await fetch("/api/songs", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(formValues()),
    });
    const result = await response.json().catch(() => ({}));
    showProblems(result.problems || {});
    if (response.ok) follow(result.key);
    else if (!result.problems) {
      const retryAfter = response.headers.get("Retry-After");
      const reason = result.error ? result.error.message : "The request failed.";
      alert.textContent = retryAfter ? `${reason} (Retry in ${retryAfter} s.)` : reason;
    }
  } catch {
    alert.textContent = "The studio is unreachable; nothing was sent. Try again.";
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

// The track that was asked for last is shown at the button: the list may be far below.

function follow(key) {
  mine = key;
  isToBeSeen = true;
  sessionStorage.setItem("mine", key);
  say("Request sent.", false);
  paintMine();
}

function paintMine() {
  const song = songs.find((each) => each.key === mine), box = byId("mine");
  box.hidden = !song;
  if (!song) return;
  box.className = `mine ${song.status}`;
  setText(byId("mine-title"), song.prompt);
  setText(byId("mine-facts"), song.status === "completed" ? "ready" : outlook(song));
  byId("mine-play").hidden = song.status !== "completed";
  paintProgress(byId("mine-progress"), song, "your track");
  if (isToBeSeen) box.scrollIntoView({ block: "center" });
  isToBeSeen = false;
}

// The form survives a reload of the page.

function saveDraft() {
  byId("length").textContent = clock(byId("duration").value);
  byId("duration").setAttribute("aria-valuetext", `${byId("duration").value} seconds`);
  sessionStorage.setItem("draft", JSON.stringify(Object.fromEntries(new FormData(form))));
}

function restoreDraft() {
  const draft = JSON.parse(sessionStorage.getItem("draft") || "{}");
  for (const [name, text] of Object.entries(draft)) {
    if (form.elements[name]) form.elements[name].value = text;
  }
  saveDraft();
}

// The list.

// What was expected when the songs came, counted down since.
const left = (seconds) => seconds - (now() - shownAt);

function outlook(song) {
  if (song.error) return song.error;
  const known = [];
  if (song.line) {
    const { before } = song.line, starts = left(song.line.starts_in);
    if (before) known.push(`${before} ${before === 1 ? "song" : "songs"} before it`);
    else known.push("next in line");
    known.push(starts >= 1 ? `starts in ${clock(starts)}` : "about to start");
  } else known.push(song.status === "waiting" ? "about to start" : STATES[song.status] || song.status);
  const ready = left(song.ready_in);
  known.push(ready >= 1 ? `ready in about ${clock(ready)}` : "ready any moment");
  return known.join(", ");
}

function facts(song) {
  if (song.error) return song.error;
  const known = song.is_final ? [] : [outlook(song)];
  if (song.duration) known.push(clock(song.duration));
  else if (song.length) known.push(`${clock(song.length)} long`);
  if (song.bpm) known.push(`${song.bpm} bpm`);
  if (song.keyscale) known.push(song.keyscale);
  if (song.took) known.push(`made in ${Math.round(song.took)} s`);
  return known.join(" · ");
}

function rowOf(song) {
  let row = rows.get(song.key);
  if (!row) {
    row = byId("row").content.firstElementChild.cloneNode(true);
    row.dataset.key = song.key;
    row.querySelector(".open").addEventListener("click", () => select(song.key, true));
    rows.set(song.key, row);
  }
  return row;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function paint(song) {
  const row = rowOf(song), open = row.querySelector(".open");
  const isDone = song.status === "completed", save = row.querySelector(".save");
  row.className = `song ${song.status}`;
  setText(row.querySelector(".title"), song.prompt);
  setText(row.querySelector(".facts"), facts(song));
  row.title = song.prompt;
  open.disabled = !isDone;
  open.setAttribute("aria-current", String(current === song.key));
  save.hidden = !isDone;
  save.href = `${audioUrl(song)}?download=true`;
  save.setAttribute("aria-label", `Download ${song.prompt}`);
  paintProgress(row.querySelector(".progress"), song, song.prompt);
  return row;
}

function paintProgress(bar, song, name) {
  bar.hidden = song.is_final;
  bar.setAttribute("aria-label", `Progress of ${name}`);
  if (song.done === null) return bar.removeAttribute("value");
  // An estimate never claims that the track is done.
  const rest = 1 - song.done, pace = song.ready_in ? rest / song.ready_in : 0;
  bar.value = Math.min(0.97, song.done + pace * (now() - shownAt));
}

function showSongs(snapshot) {
  const before = new Map(songs.map((song) => [song.key, song]));
  songs = snapshot.songs;
  shownAt = now();
  const list = byId("songs");
  const wanted = songs.map(paint);
  if (wanted.some((row, n) => list.children[n] !== row) || list.children.length !== wanted.length) {
    const focused = document.activeElement;
    list.replaceChildren(...wanted);
    if (focused && list.contains(focused)) focused.focus();
  }
  for (const key of rows.keys()) if (!songs.some((song) => song.key === key)) rows.delete(key);
  byId("empty").hidden = songs.length > 0;
  paintMine();
  for (const song of songs) announce(song, before.get(song.key));
  const newest = songs.find((song) => song.status === "completed");
  if (newest && !current) select(newest.key, false);
  isFirstSnapshot = false;
}

function announce(song, earlier) {
  if (isFirstSnapshot || (earlier && earlier.status === song.status)) return;
  const end = ENDS[song.status];
  if (end) say(`${song.prompt}: ${end}.`, true);
  else say(`${song.prompt}: ${STATES[song.status] || song.status}.`, false);
  if (song.status === "completed" && audio.paused && !audio.currentTime) select(song.key, false);
}

function updateElapsed() {
  for (const song of songs) {
    if (song.is_final) continue;
    setText(rows.get(song.key).querySelector(".facts"), facts(song));
    paintProgress(rows.get(song.key).querySelector(".progress"), song, song.prompt);
  }
  paintMine();
  paintNote();
}

// The player.

async function select(key, andPlay) {
  const song = songs.find((each) => each.key === key);
  if (!song || song.status !== "completed") return;
  const isNew = current !== key;
  current = key;
  for (const each of songs) paint(each);
  if (isNew) await load(song);
  if (andPlay) audio.play();
}

async function load(song) {
  setText(byId("player-title"), song.prompt);
  setText(byId("player-facts"), facts(song));
  wave.clear();
  audio.src = audioUrl(song);
  byId("save").href = `${audioUrl(song)}?download=true`;
  byId("save").hidden = false;
  for (const id of ["play", "position"]) byId(id).disabled = false;
  const response = await fetch(audioUrl(song));
  if (response.ok && current === song.key) await wave.load(await response.arrayBuffer());
}

function showPosition() {
  const length = audio.duration || 0;
  const position = byId("position");
  position.max = length || 1;
  position.value = audio.currentTime;
  const time = `${clock(audio.currentTime)} / ${clock(length)}`;
  setText(byId("time"), time);
  position.setAttribute("aria-valuetext", time.replace("/", "of"));
  wave.at(length ? audio.currentTime / length : 0);
  document.querySelector(".player").classList.toggle("playing", !audio.paused);
  byId("play").setAttribute("aria-label", audio.paused ? "Play" : "Pause");
}

// The meters.

function showMeters(meters) {
  setText(byId("credits"), meters.credits === null ? "–" : String(meters.credits));
  const dots = byId("creates");
  budget = meters.creates;
  startsAt = meters.starts_in === null ? null : now() + meters.starts_in;
  const free = budget.available || 0;
  while (dots.children.length < Math.min(budget.limit || 0, 30)) dots.append(document.createElement("i"));
  [...dots.children].forEach((dot, n) => dot.classList.toggle("free", n < free));
  dots.setAttribute("aria-valuemax", budget.limit || 0);
  dots.setAttribute("aria-valuenow", free);
  dots.setAttribute("aria-valuetext", `${free} of ${budget.limit}`);
  paintNote();
}

function paintNote() {
  if (budget) setText(byId("creates-note"), note());
}

function note() {
  const wait = startsAt === null ? 0 : startsAt - now();
  const line = budget.waiting ? `${budget.waiting} in line, ` : "";
  if (wait >= 1) return `${line}next song can start in ${clock(wait)}`;
  return `${line}next song can start now`;
}

// Events from the server.

function listen() {
  const events = new EventSource("/api/events");
  events.addEventListener("songs", (event) => showSongs(JSON.parse(event.data)));
  events.addEventListener("meters", (event) => showMeters(JSON.parse(event.data)));
  events.addEventListener("open", () => setText(byId("offline"), ""));
  events.addEventListener("error", () => {
    setText(byId("offline"), "The studio is unreachable; reconnecting.");
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  });
}

async function showService() {
  const { service } = await (await fetch("/api/service")).json();
  const isFree = service === "emulator";
  setText(byId("service"), isFree ? "Emulator: costs nothing" : `${service}: a credit per track`);
}

form.addEventListener("submit", (event) => { event.preventDefault(); make(); });
form.addEventListener("input", saveDraft);
byId("mine-play").addEventListener("click", () => select(mine, true));
byId("play").addEventListener("click", () => (audio.paused ? audio.play() : audio.pause()));
byId("position").addEventListener("input", (event) => { audio.currentTime = event.target.value; showPosition(); });
for (const change of ["loadedmetadata", "timeupdate", "play", "pause", "ended", "seeked"]) audio.addEventListener(change, showPosition);
setInterval(updateElapsed, 1000);
restoreDraft();
showService();
listen();
