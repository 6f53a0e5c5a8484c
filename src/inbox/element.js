// <fanfare-inbox user="u1" token="…"></fanfare-inbox>: a user's inbox on a web page, as docs/inbox.md describes it.
// Messages are displayed as text and never parsed as HTML.
(() => {
  "use strict";
  const HOME = document.currentScript?.src ? new URL(document.currentScript.src).origin : location.origin;
  const POLL = 30_000; // milliseconds between polls while there is no stream
  const PAGE = 30;
  const STYLE = `
:host { --bg: var(--fanfare-background, light-dark(#fff, #1f2125)); --fg: var(--fanfare-color, light-dark(#1c1e21, #e9eaec));
  --dim: var(--fanfare-muted, light-dark(#62676f, #a0a5ad)); --line: var(--fanfare-border, light-dark(#e3e5e8, #383b41));
  --hot: var(--fanfare-accent, light-dark(#2557d6, #8fb0ff)); --tint: var(--fanfare-unread, light-dark(#f1f5fe, #272c38));
  position: relative; display: inline-block; font: 14px/1.45 var(--fanfare-font, system-ui, sans-serif); }
:host([hidden]), [hidden] { display: none !important; }
button { all: unset; box-sizing: border-box; cursor: pointer; }
button:focus-visible { outline: 2px solid var(--hot); outline-offset: -2px; border-radius: 6px; }
.bell { position: relative; display: grid; place-items: center; width: 40px; height: 40px; border-radius: 50%; }
.bell:hover { background: color-mix(in srgb, currentColor 8%, transparent); }
svg { width: 22px; height: 22px; fill: none; stroke: currentColor; stroke-width: 1.7; stroke-linecap: round; stroke-linejoin: round; }
.badge { position: absolute; top: 1px; right: 0; min-width: 18px; height: 18px; padding: 0 5px; box-sizing: border-box;
  border-radius: 9px; background: var(--fanfare-badge, #c8232c); color: #fff; font: 600 11px/18px system-ui, sans-serif; text-align: center; }
.panel { position: absolute; z-index: 1000; top: calc(100% + 8px); inset-inline-end: 0; width: min(380px, calc(100vw - 24px));
  max-height: min(560px, 80vh); display: flex; flex-direction: column; overflow: hidden; background: var(--bg); color: var(--fg); outline: 0;
  border: 1px solid var(--line); border-radius: 12px; box-shadow: 0 12px 32px rgb(0 0 0 / .18); }
:host([align=start]) .panel { inset-inline: 0 auto; }
header { display: flex; align-items: center; padding: 12px 16px; border-bottom: 1px solid var(--line); }
h2 { flex: 1; margin: 0; font-size: 16px; }
.link { color: var(--hot); font-size: 13px; padding: 2px 4px; }
.link:hover { text-decoration: underline; }
.list { overflow-y: auto; overscroll-behavior: contain; }
ul { list-style: none; margin: 0; padding: 0; }
li { position: relative; display: flex; border-bottom: 1px solid var(--line); }
li:last-child { border-bottom: 0; }
li.unread { background: var(--tint); }
li.unread::before { content: ""; position: absolute; left: 7px; top: 21px; width: 7px; height: 7px; border-radius: 50%; background: var(--hot); }
.message { flex: 1; min-width: 0; padding: 12px 4px 12px 22px; }
.message > span { display: block; overflow-wrap: anywhere; white-space: pre-line; }
.message .subject { font-weight: 600; }
.message .text { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 4; overflow: hidden; }
.message time { color: var(--dim); font-size: 12px; }
.archive { align-self: start; margin: 8px 8px 0 0; padding: 5px; color: var(--dim); border-radius: 6px; }
.archive svg { display: block; width: 17px; height: 17px; }
.archive:hover { color: var(--fg); background: color-mix(in srgb, currentColor 10%, transparent); }
.note { margin: 0; padding: 36px 16px; text-align: center; color: var(--dim); }
.more { display: block; width: 100%; padding: 10px; text-align: center; color: var(--hot); border-top: 1px solid var(--line); }
.said { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }`;
  const BELL = "M18 16v-5a6 6 0 1 0-12 0v5l-2 2h16zM10 21h4";
  const BOX = "M3 5h18v4H3zM5 9v10h14V9M10 13h4";

  const make = (name, options = {}, ...children) => {
    const { on = {}, ...rest } = options;
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(rest)) {
      if (key in node) node[key] = value; else node.setAttribute(key, value);
    }
    for (const [event, handler] of Object.entries(on)) node.addEventListener(event, handler);
    node.append(...children.filter((child) => child != null));
    return node;
  };
  const icon = (path) => {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("aria-hidden", "true");
    svg.append(document.createElementNS(space, "path"));
    svg.firstChild.setAttribute("d", path);
    return svg;
  };
  const ago = (time) => {
    const seconds = (Date.parse(time) - Date.now()) / 1000;
    const format = new Intl.RelativeTimeFormat(document.documentElement.lang || undefined, { numeric: "auto" });
    for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
      if (Math.abs(seconds) >= size) return format.format(Math.trunc(seconds / size), unit);
    }
    return format.format(0, "second");
  };

  class FanfareInbox extends HTMLElement {
    static observedAttributes = ["user", "token", "server"];
    // for other languages, set these before the page's first inbox is created
    static labels = {
      title: "Inbox", unread: "unread", readAll: "Mark all as read", archive: "Archive", more: "Show more",
      empty: "Nothing here yet", failed: "The inbox cannot be reached right now", came: "New message",
    };

    #items = new Map();
    #unread = 0;
    #next = null;
    #failed = false;
    #open = false;
    #run = null; // aborts the requests and the stream of the present user and token
    #due = false;
    #told = 0; // number of events received
    #source;
    #frame;
    #parts;

    constructor() {
      super();
      const labels = FanfareInbox.labels;
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(STYLE);
      const root = this.attachShadow({ mode: "open" });
      root.adoptedStyleSheets = [sheet];
      const badge = make("span", { className: "badge", hidden: true });
      const bell = make("button", { type: "button", className: "bell", "aria-haspopup": "dialog", on: { click: () => this.toggle() } }, icon(BELL), badge);
      const readAll = make("button", { type: "button", className: "link", textContent: labels.readAll, on: { click: () => this.#act("/read-all") } });
      const note = make("p", { className: "note" });
      const list = make("ul", { "aria-label": labels.title });
      const more = make("button", { type: "button", className: "more", textContent: labels.more, on: { click: () => this.#load(this.#next) } });
      const panel = make("div", { className: "panel", role: "dialog", "aria-label": labels.title, tabIndex: -1, hidden: true },
        make("header", {}, make("h2", { textContent: labels.title }), readAll), make("div", { className: "list" }, note, list, more));
      const said = make("span", { className: "said", role: "status" });
      root.append(bell, panel, said);
      root.addEventListener("keydown", (event) => {
        if (event.key === "Escape" && this.#open) { event.stopPropagation(); this.toggle(false); }
      });
      this.#parts = { badge, bell, readAll, note, list, more, panel, said };
      this.#show();
    }

    connectedCallback() {
      document.addEventListener("pointerdown", this.#outside);
      this.#restart();
    }

    disconnectedCallback() {
      document.removeEventListener("pointerdown", this.#outside);
      this.#stop();
    }

    attributeChangedCallback(name, before, now) {
      if (before !== now && this.isConnected) this.#restart();
    }

    /** The number of unread messages. */
    get unread() { return this.#unread; }

    /** Opens or closes the list. */
    toggle(open = !this.#open) {
      this.#open = open;
      this.#show();
      (open ? this.#parts.panel : this.#parts.bell).focus();
    }

    #outside = (event) => {
      if (this.#open && !event.composedPath().includes(this)) { this.#open = false; this.#show(); }
    };

    #stop() {
      this.#run?.abort();
      this.#run = null;
    }

    // runs once for all attributes that are set together
    #restart() {
      if (this.#due) return;
      this.#due = true;
      queueMicrotask(() => {
        this.#due = false;
        this.#stop();
        this.#items.clear();
        this.#unread = 0;
        this.#next = null;
        this.#failed = false;
        if (this.isConnected && this.getAttribute("user")) {
          this.#run = new AbortController();
          this.#listen(this.#run.signal);
        }
        this.#show();
      });
    }

    #url(rest) {
      const server = (this.getAttribute("server") || HOME).replace(/\/+$/, "");
      return `${server}/api/v1/inbox/${encodeURIComponent(this.getAttribute("user"))}${rest}`;
    }

    async #call(rest, method = "GET") {
      const { signal } = this.#run;
      const token = this.getAttribute("token");
      const response = await fetch(this.#url(rest), { method, signal, headers: token ? { Authorization: `Bearer ${token}` } : {} });
      if (response.status === 401 && this.#run?.signal === signal) {
        this.#stop();
        // the page gets a new token from its server and sets the attribute
        this.dispatchEvent(new CustomEvent("fanfare-token", { bubbles: true, composed: true }));
      }
      if (!response.ok) throw new Error(`inbox request failed with status ${response.status}`);
      const body = await response.json();
      signal.throwIfAborted();
      return body;
    }

    // Opens the stream first and then reads the list, so that nothing is missed in between.
    #listen(signal) {
      const token = this.getAttribute("token");
      const source = this.#source = new EventSource(this.#url("/stream") + (token ? `?token=${encodeURIComponent(token)}` : ""));
      const on = (name, handler) => source.addEventListener(name, (event) => {
        if (signal.aborted) return;
        this.#told += 1;
        handler(event.data && JSON.parse(event.data));
        this.#frame ??= requestAnimationFrame(() => this.#show()); // draws a burst of events once
      });
      let timer;
      signal.addEventListener("abort", () => { source.close(); clearTimeout(timer); });
      on("open", () => this.#load());
      on("reset", () => this.#load());
      on("count", ({ unread }) => { this.#unread = unread; });
      on("message", (message) => {
        if (!this.#items.has(message.id)) this.#parts.said.textContent = `${FanfareInbox.labels.came}: ${message.subject ?? message.text}`;
        this.#items.set(message.id, message);
      });
      on("read", ({ id, at }) => this.#change(id, { read_at: at }));
      on("unread", ({ id }) => this.#change(id, { read_at: null }));
      on("archived", ({ id }) => this.#items.delete(id));
      on("all_read", ({ before }) => {
        for (const item of this.#items.values()) if (item.created_at <= before) item.read_at ??= before;
      });
      source.addEventListener("error", () => {
        // EventSource reconnects after a break, but not after a refusal
        if (signal.aborted || source.readyState !== EventSource.CLOSED) return;
        this.#load();
        timer = setTimeout(() => { if (!signal.aborted) this.#listen(signal); }, POLL);
      });
    }

    #change(id, change) {
      const item = this.#items.get(id);
      if (item) Object.assign(item, change);
    }

    async #load(cursor = null) {
      const told = this.#told;
      try {
        const [page, { unread }] = await Promise.all([
          this.#call(`?limit=${PAGE}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`), this.#call("/count"),
        ]);
        // an event arrived during the request, so the response may be older than the displayed state
        if (told !== this.#told) return this.#load();
        if (!cursor) this.#items.clear();
        for (const item of page.items) this.#items.set(item.id, item);
        [this.#next, this.#unread, this.#failed] = [page.next_cursor, unread, false];
      } catch (error) {
        if (error.name === "AbortError") return;
        this.#failed = true;
      }
      this.#show();
    }

    async #act(rest) {
      try {
        await this.#call(rest, "POST");
        // otherwise the stream delivers the result
        if (this.#source.readyState !== EventSource.OPEN) await this.#load();
      } catch (error) {
        if (error.name !== "AbortError") { this.#failed = true; this.#show(); }
      }
    }

    #choose(item) {
      if (!item.read_at) {
        item.read_at = new Date().toISOString();
        this.#unread = Math.max(0, this.#unread - 1);
        this.#show();
        this.#act(`/${item.id}/read`);
      }
      this.dispatchEvent(new CustomEvent("fanfare-open", { bubbles: true, composed: true, detail: item }));
    }

    #show() {
      this.#frame = undefined;
      const { badge, bell, readAll, note, list, more, panel } = this.#parts;
      const labels = FanfareInbox.labels;
      badge.hidden = !this.#unread;
      badge.textContent = this.#unread > 99 ? "99+" : String(this.#unread);
      bell.setAttribute("aria-label", this.#unread ? `${labels.title}, ${this.#unread} ${labels.unread}` : labels.title);
      bell.setAttribute("aria-expanded", String(this.#open));
      panel.hidden = !this.#open;
      readAll.hidden = !this.#unread;
      more.hidden = !this.#next;
      note.hidden = this.#items.size > 0 && !this.#failed;
      note.textContent = this.#failed ? labels.failed : labels.empty;
      const focused = this.shadowRoot.activeElement?.dataset.key;
      const items = [...this.#items.values()].sort((a, b) => (a.created_at < b.created_at ? 1 : -1));
      list.replaceChildren(...items.map((item) => this.#row(item)));
      if (focused) (list.querySelector(`[data-key="${focused}"]`) ?? panel).focus();
    }

    #row(item) {
      const open = make("button", { type: "button", className: "message", on: { click: () => this.#choose(item) } },
        item.read_at ? null : make("span", { className: "said", textContent: FanfareInbox.labels.unread }),
        item.subject ? make("span", { className: "subject", textContent: item.subject }) : null,
        make("span", { className: "text", textContent: item.text }),
        make("time", { dateTime: item.created_at, textContent: ago(item.created_at) }));
      const archive = make("button", { type: "button", className: "archive", title: FanfareInbox.labels.archive,
        "aria-label": FanfareInbox.labels.archive, on: { click: () => this.#act(`/${item.id}/archive`) } }, icon(BOX));
      open.dataset.key = item.id;
      archive.dataset.key = `archive-${item.id}`;
      return make("li", { className: item.read_at ? "" : "unread" }, open, archive);
    }
  }

  if (!customElements.get("fanfare-inbox")) customElements.define("fanfare-inbox", FanfareInbox);
})();
