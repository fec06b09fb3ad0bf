// A page that says data-live="SECONDS" is read again so often, and its content replaced, until it says so no more.
// Without this script a <meta> refresh does the same.
(() => {
  const find = (where) => where.querySelector("[data-live]");
  const again = async () => {
    const old = find(document);
    if (!old) return;
    const held = old.querySelector(":focus, details[open], input[type=text]:not(:placeholder-shown)");
    if (!document.hidden && !held) {
      try {
        const answer = await fetch(location.href, { credentials: "same-origin" });
        if (answer.ok && !answer.redirected) {
          const page = new DOMParser().parseFromString(await answer.text(), "text/html");
          const fresh = find(page) || page.querySelector("main > div");
          if (fresh && !old.querySelector(":focus")) old.replaceWith(document.adoptNode(fresh));
          document.title = page.title;
        }
      } catch (error) { /* the server is away: the next time, perhaps */ }
    }
    const now = find(document);
    if (now) setTimeout(again, 1000 * Number(now.dataset.live));
  };
  const first = find(document);
  if (first) setTimeout(again, 1000 * Number(first.dataset.live));
})();
