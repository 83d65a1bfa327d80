"use strict";

const byId = (id) => document.getElementById(id);
const form = byId("form"), audio = byId("audio"), wave = new Wave(byId("wave"));
const rows = new Map();
const ENDS = { completed: "finished", failed: "failed" };
const STATES = {
  waiting: "waits for its turn",
  pending: "queued",
  processing: "being made",
  failed: "failed",
};
let songs = [], usual = null, current = null, firstPicture = true;

const clock = (seconds) => {
  const whole = Math.max(0, Math.round(seconds || 0));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
};
const soundOf = (song) => `/api/songs/${encodeURIComponent(song.key)}/audio`;
const now = () => performance.now() / 1000;

// Screen readers: at most one message every 5 s; ends are kept, progress is not.
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

function wish() {
  const found = {};
  for (const [name, text] of new FormData(form)) {
    if (!text.trim()) continue;
    const isNumber = ["duration", "bpm", "seed"].includes(name);
    found[name] = isNumber ? Number(text) : text;
  }
  return found;
}

function show(problems) {
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
    const answer = await fetch("/api/songs", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(wish()),
    });
    const told = await answer.json().catch(() => ({}));
    show(told.problems || {});
    if (answer.ok) say("Asked for.", false);
    else if (!told.problems) {
      const later = answer.headers.get("Retry-After");
      const reason = told.error ? told.error.message : "That did not work.";
      alert.textContent = later ? `${reason} (In ${later} s.)` : reason;
    }
  } catch {
    alert.textContent = "The studio cannot be reached; nothing was sent.";
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

// What was typed survives a refresh.

function keep() {
  byId("length").textContent = clock(byId("duration").value);
  byId("duration").setAttribute("aria-valuetext", `${byId("duration").value} seconds`);
  sessionStorage.setItem("wish", JSON.stringify(Object.fromEntries(new FormData(form))));
}

function recall() {
  const kept = JSON.parse(sessionStorage.getItem("wish") || "{}");
  for (const [name, text] of Object.entries(kept)) {
    if (form.elements[name]) form.elements[name].value = text;
  }
  keep();
}

// The list.

function facts(song) {
  if (song.error) return song.error;
  const known = [];
  if (!song.is_final) {
    const state = STATES[song.status] || song.status;
    known.push(`${state}, ${Math.floor(now() - song.since)} s so far`);
  }
  if (song.duration || song.length) known.push(clock(song.duration || song.length));
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
    row.querySelector(".open").addEventListener("click", () => choose(song.key, true));
    rows.set(song.key, row);
  }
  return row;
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function paint(song) {
  const row = rowOf(song), open = row.querySelector(".open");
  const isDone = song.status === "completed", save = row.querySelector(".save");
  row.className = `song ${song.status}`;
  put(row.querySelector(".title"), song.prompt);
  put(row.querySelector(".facts"), facts(song));
  row.title = song.prompt;
  open.disabled = !isDone;
  open.setAttribute("aria-current", String(current === song.key));
  save.hidden = !isDone;
  save.href = `${soundOf(song)}?download=true`;
  save.setAttribute("aria-label", `Download ${song.prompt}`);
  paintProgress(row.querySelector(".progress"), song);
  return row;
}

function paintProgress(bar, song) {
  bar.hidden = song.is_final;
  bar.setAttribute("aria-label", `Progress of ${song.prompt}`);
  // An estimate never says that it is done.
  if (!usual || song.status === "waiting") bar.removeAttribute("value");
  else bar.value = Math.min(0.95, (now() - song.since) / usual);
}

function take(picture) {
  const before = new Map(songs.map((song) => [song.key, song]));
  usual = picture.usual;
  songs = picture.songs;
  for (const song of songs) song.since = now() - (song.elapsed || 0);
  const list = byId("songs");
  const wanted = songs.map(paint);
  if (wanted.some((row, n) => list.children[n] !== row) || list.children.length !== wanted.length) {
    const focused = document.activeElement;
    list.replaceChildren(...wanted);
    if (focused && list.contains(focused)) focused.focus();
  }
  for (const key of rows.keys()) if (!songs.some((song) => song.key === key)) rows.delete(key);
  byId("empty").hidden = songs.length > 0;
  for (const song of songs) announce(song, before.get(song.key));
  const newest = songs.find((song) => song.status === "completed");
  if (newest && !current) choose(newest.key, false);
  firstPicture = false;
}

function announce(song, earlier) {
  if (firstPicture || (earlier && earlier.status === song.status)) return;
  const end = ENDS[song.status];
  if (end) say(`${song.prompt}: ${end}.`, true);
  else say(`${song.prompt}: ${STATES[song.status] || song.status}.`, false);
  if (song.status === "completed" && audio.paused && !audio.currentTime) choose(song.key, false);
}

function tick() {
  for (const song of songs) {
    if (song.is_final) continue;
    put(rows.get(song.key).querySelector(".facts"), facts(song));
    paintProgress(rows.get(song.key).querySelector(".progress"), song);
  }
}

// The player.

async function choose(key, andPlay) {
  const song = songs.find((each) => each.key === key);
  if (!song || song.status !== "completed") return;
  const isNew = current !== key;
  current = key;
  for (const each of songs) paint(each);
  if (isNew) await load(song);
  if (andPlay) audio.play();
}

async function load(song) {
  put(byId("player-title"), song.prompt);
  put(byId("player-facts"), facts(song));
  wave.clear();
  audio.src = soundOf(song);
  byId("save").href = `${soundOf(song)}?download=true`;
  byId("save").hidden = false;
  for (const id of ["play", "position"]) byId(id).disabled = false;
  const answer = await fetch(soundOf(song));
  if (answer.ok && current === song.key) await wave.load(await answer.arrayBuffer());
}

function follow() {
  const length = audio.duration || 0;
  const position = byId("position");
  position.max = length || 1;
  position.value = audio.currentTime;
  const time = `${clock(audio.currentTime)} / ${clock(length)}`;
  put(byId("time"), time);
  position.setAttribute("aria-valuetext", time.replace("/", "of"));
  wave.at(length ? audio.currentTime / length : 0);
  document.querySelector(".player").classList.toggle("playing", !audio.paused);
  byId("play").setAttribute("aria-label", audio.paused ? "Play" : "Pause");
}

// The meters.

function measure(meters) {
  put(byId("credits"), meters.credits === null ? "–" : String(meters.credits));
  const dots = byId("creates"), bar = byId("reads");
  const { creates, reads } = meters;
  while (dots.children.length < Math.min(creates.limit || 0, 30)) dots.append(document.createElement("i"));
  [...dots.children].forEach((dot, n) => dot.classList.toggle("free", n < (creates.available || 0)));
  bar.firstElementChild.style.transform = `scaleX(${(reads.available || 0) / (reads.limit || 1)})`;
  for (const [meter, budget] of [[dots, creates], [bar, reads]]) {
    meter.setAttribute("aria-valuemax", budget.limit || 0);
    meter.setAttribute("aria-valuenow", budget.available || 0);
    meter.setAttribute("aria-valuetext", `${budget.available} of ${budget.limit}`);
    put(byId(`${meter.id}-note`), note(budget));
  }
}

function note(budget) {
  if (budget.limit === null) return "no limit";
  if (budget.waiting && budget.next) return `${budget.waiting} wait, next in ${budget.next} s`;
  if (!budget.available && budget.next) return `next in ${budget.next} s`;
  return `${budget.available} of ${budget.limit}`;
}

// The beginning.

function listen() {
  const events = new EventSource("/api/events");
  events.addEventListener("songs", (event) => take(JSON.parse(event.data)));
  events.addEventListener("meters", (event) => measure(JSON.parse(event.data)));
  events.addEventListener("open", () => put(byId("offline"), ""));
  events.addEventListener("error", () => {
    put(byId("offline"), "The studio cannot be reached; trying again.");
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  });
}

async function name() {
  const { service } = await (await fetch("/api/service")).json();
  const isFree = service === "emulator";
  put(byId("service"), isFree ? "Emulator: costs nothing" : `${service}: a credit per track`);
}

form.addEventListener("submit", (event) => { event.preventDefault(); make(); });
form.addEventListener("input", keep);
byId("play").addEventListener("click", () => (audio.paused ? audio.play() : audio.pause()));
byId("position").addEventListener("input", (event) => { audio.currentTime = event.target.value; follow(); });
for (const change of ["loadedmetadata", "timeupdate", "play", "pause", "ended", "seeked"]) audio.addEventListener(change, follow);
setInterval(tick, 1000);
recall();
name();
listen();
