// SPDX-License-Identifier: Apache-2.0
// A client of `transformers-simul serve` without dependencies: streams and rooms, which reconnect and resume by
// themselves. What it does is what transformers_simul.serving.client does; docs/protocol.md says why.

const END = Symbol("end");
// White space that breaks words: not the no-break spaces.
const BREAKS = /[\t-\r\x1c- \x85\u1680\u2000-\u2006\u2008-\u200a\u2028\u2029\u205f\u3000]+/;
const GIVE_UP_MS = 120_000, GOOD_MS = 5_000, LONGEST = 500, SHARE = 0.9, WAITING = 65_536;
const MOST_KEPT = 1000, MAX_COMMITTED = 4096;
const bytes = (value) => new TextEncoder().encode(JSON.stringify(value)).length;
/** Source words before the first that is kept for a track. */
const begin = (track) => (track.context[0] ?? track).source_words;

/** What must be kept of a stream to go on after a lost connection. */
export class Kept {
  unit = null;
  hasEnded = false;
  #tracks = {};
  // Units of which all target languages have ended the sentences; units from `base` on, where the caller ended sentences.
  #done = 0;
  #base = 0;
  #units = [];
  #ends = [];
  #left = "";
  #keptSentences = 0;
  #limits = null;

  constructor(sentences = true) {
    this.sentences = sentences;
  }

  /** The server has taken the stream, for the first time or again. */
  begin({ unit, target_langs, kept_sentences, limits }) {
    // Whatever the server says; what is no number is 0.
    this.#keptSentences = Math.max(0, Math.min(Number(kept_sentences) || 0, MOST_KEPT));
    this.#limits = limits;
    if (this.unit !== null) return;
    this.unit = unit;
    for (const language of target_langs) {
      // In `context` sentences that have ended: the source words before each, and its target words.
      this.#tracks[language] = { source_words: 0, target_words: 0, sentences: 0, committed: [], context: [] };
    }
  }

  get sourceWords() {
    return this.#base + this.#units.length;
  }

  get wordsAhead() {
    const read = Object.values(this.#tracks).map((t) => Math.max(t.source_words, t.committed.at(-1)?.delay ?? 0));
    return this.sourceWords - Math.min(...read);
  }

  put(text) {
    const before = this.#units.length;
    if (this.unit !== "char") {
      const words = (this.#left + text).split(BREAKS);
      this.#left = words.pop();
      this.#units.push(...words.filter(Boolean));
    } else {
      let gap = this.#left !== "";
      text.split(BREAKS).forEach((piece, index) => {
        gap = gap || (index > 0 && this.sourceWords > 0);
        if (piece) {
          this.#units.push(...(gap ? [" "] : []), ...piece);
          gap = false;
        }
      });
      this.#left = gap ? " " : "";
    }
    return this.#units.length - before;
  }

  #complete() {
    const whole = this.unit !== "char" && this.#left !== "";
    if (whole) {
      this.#units.push(this.#left);
      this.#left = "";
    }
    return Number(whole);
  }

  endSentence() {
    const completed = this.#complete();
    if (this.sourceWords > Math.max(this.#done, this.#ends.at(-1) ?? 0)) this.#ends.push(this.sourceWords);
    return completed;
  }

  end() {
    this.hasEnded = true;
    return this.#complete();
  }

  /** A word or the end of a sentence came; false if it had come before. */
  heard(message) {
    const track = this.#tracks[message.target_lang];
    if (message.type === "word") {
      const expected = track.target_words + track.committed.length;
      if (message.index > expected) throw new Error(`word ${message.index} came after ${expected - 1}`);
      if (message.index < expected) return false;
      track.committed.push({ text: message.text, delay: message.delay, ids: message.ids ?? [] });
      return true;
    }
    if (message.sentences <= track.sentences) return false;
    track.sentences = message.sentences;
    if (this.#forgets) {
      track.context.push({ source_words: track.source_words, words: track.committed });
      // After one that was cut off, nothing before the next is in view.
      if ((message.reason ?? "eos") !== "eos") track.context = [];
      track.context.splice(0, track.context.length - this.#keptSentences);
      Object.assign(track, { source_words: message.source_words, target_words: message.target_words, committed: [] });
      this.#forget();
    }
    return true;
  }

  get #forgets() {
    return this.sentences && this.unit !== "token";
  }

  #forget() {
    const tracks = Object.values(this.#tracks);
    this.#done = Math.min(...tracks.map((track) => track.source_words));
    const base = Math.min(...tracks.map(begin));
    this.#ends = this.#ends.filter((end) => end > base);
    this.#units.splice(0, base - this.#base);
    this.#base = base;
  }

  /** The field `resume` of `start`; undefined for a new stream. */
  resume() {
    if (this.unit === null) return undefined;
    const count = (track) => track.context.reduce((sum, { words }) => sum + words.length, 0);
    const { burst_words: burst, message_bytes: most } = this.#limits;
    for (;;) {
      const tracks = Object.values(this.#tracks), kept = tracks.filter((track) => track.context.length);
      const resume = this.#resuming();
      const isSmall = this.#done - this.#base <= Math.floor(burst / 2)
        && tracks.every((track) => count(track) <= MAX_COMMITTED)
        // `start` has other fields too.
        && bytes(resume) <= most * SHARE;
      if (isSmall || kept.length === 0) return resume;
      // Without the oldest, words may follow that differ from those without a break.
      kept.reduce((one, other) => (begin(other) < begin(one) ? other : one)).context.shift();
      this.#forget();
    }
  }

  #resuming() {
    const tracks = Object.entries(this.#tracks).map(([target_lang, { context, ...track }]) => {
      const [{ source_words } = {}] = context, words = context.flatMap((sentence) => sentence.words);
      return {
        target_lang,
        ...track,
        sentences: this.#forgets ? track.sentences : 0,
        ...(context.length ? { context: { source_words, words } } : {}),
      };
    });
    return { source_words: this.#base, tracks };
  }

  /** What must be sent again: texts, and null for each end of a sentence. */
  again() {
    const pieces = [], joiner = this.unit === "char" ? "" : " ";
    let text = "";
    this.#units.forEach((unit, index) => {
      text += unit + joiner;
      const ends = this.#ends.includes(this.#base + index + 1);
      if (ends || text.length > LONGEST) {
        pieces.push(text, ...(ends ? [null] : []));
        text = "";
      }
    });
    if (!this.hasEnded) text += this.#left;
    return text ? [...pieces, text] : pieces;
  }
}

/** An error of the server (`code`, `action`, `remedy`), or of a connection that could not be got back. */
export class SimulError extends Error {
  constructor(error) {
    super(`${error.code}: ${error.message}`);
    Object.assign(this, { code: error.code, action: error.action, remedy: error.remedy });
  }
}

/** A connection that is got back: what a stream and a listener share. */
class Line {
  #socket = null;
  #tries = 0;
  #sinceMs = Date.now();
  #isOver = false;

  constructor(url, { onState = () => {}, onError = () => {} }) {
    this.url = url;
    this.onState = onState;
    this.onError = onError;
    this.heardMessages = 0;
    this.reconnects = -1;
  }

  _connect() {
    const socket = this.#socket = new WebSocket(this.url);
    const openedMs = Date.now(), before = this.heardMessages;
    let failure = null;
    socket.onopen = () => this._send(this._first());
    socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (message.type === "error") {
        failure = message;
      } else {
        try {
          this._hear(message);
        } catch (error) {
          this._finish(error);
        }
      }
    };
    socket.onclose = () => {
      this._lost();
      if (this.#isOver) return;
      if (failure?.action === "fix" || (failure && this.reconnects < 0)) return this._finish(new SimulError(failure));
      if (this.heardMessages > before || Date.now() - openedMs > GOOD_MS) {
        this.#tries = 0;
        this.#sinceMs = Date.now();
      }
      const isLate = Date.now() - this.#sinceMs > GIVE_UP_MS;
      if (isLate || this.reconnects < 0) {
        const lost = { code: "lost", message: `no connection to ${this.url}`, action: "retry", remedy: "try again later" };
        return this._finish(new SimulError(failure ?? lost));
      }
      this.onState("lost");
      // On top of what the server asks for: whom it refused together must not come back together.
      const pauseMs = Math.random() * Math.min(500 * 2 ** this.#tries++, 10_000);
      setTimeout(() => this.#isOver || this._connect(), (failure?.retry_after_s ?? 0) * 1000 + pauseMs);
    };
  }

  _agreed() {
    this.reconnects++;
    this.onState("live");
  }

  _send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  _finish(error = null) {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#socket?.close();
    this.onState("ended");
    if (error) this.onError(error);
  }

  _lost() {}

  get isOver() {
    return this.#isOver;
  }

  close() {
    this._finish();
  }
}

/** A stream: `put`, `endSentence`, `end`, `cancel`; words come to `onMessage`, each once. `fields` are those of `start`. */
export class SimulStream extends Line {
  // What must be sent again, and what waits behind it.
  #resent = [];
  #outbox = [];
  #waiting = 0;
  #again = null;
  #limits = null;
  #left = 0;
  #filledMs = 0;
  #timer = null;
  #kept;

  constructor(base, fields, options) {
    super(socketUrl(base, "v1/stream"), options);
    this.fields = fields;
    this.onMessage = options.onMessage;
    this.#kept = new Kept(fields.sentences ?? true);
    this._connect();
  }

  /** Characters that were put and not sent yet. */
  get waiting() {
    return this.#waiting;
  }

  /** A piece of source; while more than 65,536 characters wait to be sent, none is taken. */
  put(text) {
    if (this.#waiting > WAITING) throw new RangeError(`${this.#waiting} characters wait to be sent: put no more yet`);
    if (!this.isOver) this.#waiting += text.length;
    for (let place = 0; place < text.length; place += LONGEST) this.#add(text.slice(place, place + LONGEST));
  }

  endSentence() {
    this.#add(null);
  }

  end() {
    this.#add(END);
  }

  #add(item) {
    if (this.isOver) return;
    this.#outbox.push(item);
    this.#pump();
  }

  cancel() {
    this._send({ type: "cancel" });
    this._finish();
  }

  _first() {
    return { type: "start", version: 1, ...this.fields, resume: this.#kept.resume() };
  }

  _hear(message) {
    if (message.type === "started") {
      this.#kept.begin(message);
      this.#limits = message.limits;
      this.#left = message.limits.burst_words * SHARE;
      this.#filledMs = Date.now();
      this.#resent = [...this.#kept.again(), ...(this.#kept.hasEnded ? [END] : [])];
      this.#timer = setInterval(() => this._send({ type: "ping" }), message.limits.idle_s * 300);
      this._agreed();
    } else if (message.type === "word" || message.type === "sentence_end") {
      if (this.#kept.heard(message)) {
        this.heardMessages++;
        this.onMessage(message);
      }
    } else if (message.type === "end") {
      this.onMessage(message);
      this._finish();
    } else {
      this.onMessage(message);
    }
    this.#pump();
  }

  _lost() {
    clearInterval(this.#timer);
    this.#limits = null;
  }

  /** The words that an item completes. */
  #keep(item) {
    if (item === END) return this.#kept.end();
    if (item === null) return this.#kept.endSentence();
    this.#waiting -= item.length;
    return this.#kept.put(item);
  }

  /** Send what waits, no faster than the server takes it. */
  #pump() {
    while (this.#limits !== null && this.#resent.length + this.#outbox.length) {
      const nowMs = Date.now(), { burst_words: burst, words_per_second: rate, waiting_words: waiting } = this.#limits;
      this.#left = Math.min(burst, this.#left + (nowMs - this.#filledMs) / 1000 * rate);
      this.#filledMs = nowMs;
      const isAgain = this.#resent.length > 0;
      if (this.#left < 1 || (!isAgain && this.#kept.wordsAhead > waiting * SHARE - LONGEST / 2)) {
        // One timer, however many messages and pieces come meanwhile.
        this.#again ??= setTimeout(() => {
          this.#again = null;
          this.#pump();
        }, 200);
        return;
      }
      const item = (isAgain ? this.#resent : this.#outbox).shift();
      // Kept first: what is not sent for certain is sent again.
      if (!isAgain) this.#left -= this.#keep(item);
      if (item === END) {
        this._send({ type: "end" });
      } else if (item === null) {
        this._send({ type: "end_sentence" });
      } else {
        if (isAgain) this.#left -= this.#kept.unit === "char" ? item.length : item.split(BREAKS).length;
        this._send({ type: "source", text: item });
      }
    }
  }
}

/** What is said in a room, each word once. */
export class RoomListener extends Line {
  #after = {};
  #sentences = {};
  #isFirst = true;

  constructor(base, room, fields, options) {
    super(socketUrl(base, `v1/rooms/${encodeURIComponent(room)}/listen`), options);
    this.fields = fields;
    this.onMessage = options.onMessage;
    this._connect();
  }

  _first() {
    return { type: "listen", version: 1, ...this.fields, after: this.#after };
  }

  _lost() {
    this.#isFirst = true;
  }

  _hear(message) {
    if (this.#isFirst) {
      this.#isFirst = false;
      this._agreed();
    }
    const counts = message.type === "word" ? this.#after : this.#sentences;
    if (message.type === "word" || message.type === "sentence_end") {
      const count = message.type === "word" ? message.index + 1 : message.sentences;
      if (count <= (counts[message.target_lang] ?? 0)) return;
      counts[message.target_lang] = count;
    }
    // The room's state comes on each connection: alone it makes none a good one.
    if (message.type !== "room") this.heardMessages++;
    this.onMessage(message);
    if (message.type === "room" && message.state === "ended") this._finish();
  }
}

function socketUrl(base, path) {
  const url = new URL(path, base);
  url.protocol = url.protocol.replace("http", "ws");
  return url.href;
}
