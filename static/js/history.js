// What was asked before: kept in this browser, a person apart, the newest first, never too much.

const MOST = 40, MOST_CHARACTERS = 200_000, SHOWN = 100;

/** A question is {at, kind, typed, picture}; only those that fit the form are shown. */
export class History {
  constructor(element, user, fits, choose) {
    this.key = `asked by ${user}`;
    this.fits = fits;
    this.choose = choose;
    this.count = element.querySelector("summary span");
    this.list = element.querySelector("ol");
    element.querySelector("button").addEventListener("click", () => this.write([]));
    this.show();
  }

  read() {
    try { return JSON.parse(localStorage.getItem(this.key) ?? "[]"); } catch { return []; }
  }

  add(question) {
    const same = JSON.stringify({ ...question, at: 0 });
    this.write([question, ...this.read().filter(one => JSON.stringify({ ...one, at: 0 }) !== same)]);
  }

  /** As many of the newest as there is room for. */
  write(questions) {
    const kept = questions.slice(0, MOST);
    while (JSON.stringify(kept).length > MOST_CHARACTERS) kept.pop();
    try {
      localStorage.setItem(this.key, JSON.stringify(kept));
      this.show();
    } catch (error) {
      this.count.textContent = `not kept: ${error.message}`;
    }
  }

  show() {
    const questions = this.read().filter(this.fits);
    this.count.textContent = questions.length;
    this.list.replaceChildren(...questions.map(question => {
      const button = Object.assign(document.createElement("button"), { type: "button", className: "compact asked" });
      const at = new Date(question.at).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
      const said = question.picture ? "Image" : Object.values(question.typed).filter(Boolean).join(" · ").replace(/\s+/g, " ").slice(0, SHOWN);
      button.append(Object.assign(document.createElement("span"), { className: "muted", textContent: at }), ` ${said}`);
      if (question.picture) button.append(Object.assign(new Image(), { src: question.picture, alt: "", className: "thumb" }));
      button.addEventListener("click", () => this.choose(question));
      const item = document.createElement("li");
      item.append(button);
      return item;
    }));
  }
}
