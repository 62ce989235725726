// SPDX-License-Identifier: Apache-2.0
// The caption page: shows what is typed here, or what is said in a room. Its address says how (docs/serving.md).
import { RoomListener, SimulStream } from "./simul-client.js";

const wanted = new URLSearchParams(location.search);
// Behind the #: a browser sends that nowhere, so that no log has it.
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? undefined;
const base = new URL(".", location.href);
const [captions, status, typing, source, read] =
  ["captions", "status", "typing", "source", "read"].map((id) => document.getElementById(id));
const style = document.documentElement.style;
const number = (name, least, most) => Math.min(most, Math.max(least, Number(wanted.get(name)) || 0));

if (wanted.get("background") === "transparent") document.documentElement.classList.add("transparent");
if (wanted.has("size")) style.setProperty("--size", `${number("size", 8, 200)}px`);
if (wanted.has("lines")) style.setProperty("--lines", number("lines", 1, 50));
if (CSS.supports("color", wanted.get("colour") ?? "")) style.setProperty("--colour", wanted.get("colour"));

// A sentence a line; more of them than fit into the window are forgotten, and so is the start of one that never ends.
const LONGEST = 4000;
let line = null, joiner = " ";
// Where several languages come, words of all would make one line: the first that speaks stays, unless the address says one.
let spoken = wanted.get("lang");
function show(message) {
  if (message.type === "word" || message.type === "sentence_end") {
    spoken ??= message.target_lang;
    if (message.target_lang !== spoken) {
      status.textContent = `There is ${message.target_lang} too: lang= in the address chooses.`;
      return;
    }
  }
  if (message.type === "started" || message.type === "room") {
    joiner = (message.unit ?? "word") === "word" ? " " : "";
  } else if (message.type === "word") {
    if (line === null) {
      line = captions.appendChild(document.createElement("div"));
      line.lang = message.target_lang;
      while (captions.childElementCount > 50) captions.firstElementChild.remove();
    }
    line.textContent = (line.textContent + (line.textContent ? joiner : "") + message.text).slice(-LONGEST);
  } else if (message.type === "sentence_end") {
    line = null;
  } else if (message.type === "warning") {
    status.textContent = message.message;
  }
}

const STATES = { live: "", lost: "The connection is lost; trying again …", ended: "The end." };
const options = {
  onMessage: show,
  onState: (state) => { status.textContent = STATES[state]; },
  onError: (error) => { status.textContent = `${error.message} ${error.remedy ?? ""}`; },
};
const languages = wanted.has("lang") ? [wanted.get("lang")] : undefined;

if (wanted.has("room")) {
  status.textContent = "Waiting for words …";
  globalThis.simul = new RoomListener(base, wanted.get("room"), { token, target_langs: languages }, options);
} else {
  const fields = { token, target_langs: languages };
  for (const [name, field] of [["policy", "policy"], ["model", "model"], ["publish", "room"]]) {
    if (wanted.has(name)) fields[field] = wanted.get(name);
  }
  if (wanted.has("context")) fields.context_sentences = number("context", 0, 1000);
  if (wanted.get("punctuation") === "add") fields.add_punctuation = true;
  // As in term=dog=Dackel, once for each.
  const terms = wanted.getAll("term").map((term) => /^([^=]+)=([^]+)$/.exec(term)).filter(Boolean);
  if (terms.length) fields.glossary = terms.map(([, source, target]) => ({ source, target }));
  if (wanted.get("numbers") === "copy") fields.copy_numbers = true;
  const stream = globalThis.simul = new SimulStream(base, fields, options);
  typing.hidden = false;
  source.focus();
  const send = (text) => {
    stream.put(text);
    read.textContent = (read.textContent + text).slice(-500);
  };
  // What stands before the last white space is complete; the rest can still be corrected.
  source.addEventListener("input", () => {
    const [, whole, rest] = /^([^]*\s)?([^]*)$/.exec(source.value);
    if (whole) {
      send(whole);
      source.value = rest;
    }
  });
  typing.addEventListener("submit", (event) => {
    event.preventDefault();
    if (source.value) send(`${source.value} `);
    source.value = "";
    stream.endSentence();
  });
}
