{
  const box = document.getElementById("q");
  const part = (page, id) => page.getElementById(id);
  let pause, asked;
  const show = async () => {
    asked?.abort();
    asked = new AbortController();
    const url = new URL(box.form.action);
    url.hash = "";
    url.search = new URLSearchParams(new FormData(box.form));
    try {
      const answer = await fetch(url, { signal: asked.signal });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!answer.ok || !part(page, "found")) return;
      part(document, "found").replaceChildren(...part(page, "found").childNodes);
      part(document, "hits").textContent = part(page, "hits").textContent;
    } catch {
      // Overtaken by the next letter, or no network: the button of the form still works.
    }
  };
  box.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(show, 150);
  });
}
