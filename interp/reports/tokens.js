  const data = JSON.parse(document.getElementById("data").textContent);
  const at = id => document.getElementById(id);
  const tabs = [...document.querySelectorAll("[role=tab]")], tip = at("tip"), slider = at("layer"), centred = at("centred");
  const boxes = [...document.querySelectorAll(".tokens")].map(box => ({ box, tokens: [...box.children] }));
  const number = x => (x > 0 ? "+" : x < 0 ? "−" : "") + String(Number(Math.abs(x).toPrecision(4)));
  const median = values => { const s = [...values].sort((a, b) => a - b), n = s.length >> 1; return s.length % 2 ? s[n] : (s[n - 1] + s[n]) / 2; };
  let label = 0;

  function show() {
    const layer = +slider.value, bound = data[centred.checked ? "bounds_centred" : "bounds"][layer], all = [];
    const shown = data.values.map(text => {
      const values = text[label][layer], middle = centred.checked ? median(values) : 0;
      return values.map(x => x - middle);
    });
    for (const values of shown) for (const x of values) all.push(Math.abs(x));
    all.sort((a, b) => a - b);
    // a few tokens far out, such as the first, take the full colour and leave a scale to the others
    const full = Math.max(1.25 * bound, all[Math.floor(0.97 * (all.length - 1))]) || 1;
    shown.forEach((values, t) => values.forEach((x, i) => {
      const token = boxes[t].tokens[i], beyond = Math.abs(x) > bound;
      token.style.setProperty("--toward", x < 0 ? "var(--minus)" : "var(--plus)");
      token.style.setProperty("--much", `${(100 * Math.min(1, Math.abs(x) / full)).toFixed(1)}%`);
      token.classList.toggle("beyond", beyond);
      const name = data.names[t][i];
      token.dataset.says = `${number(x)}${beyond ? ", beyond 95 % of random directions" : ""}`;
      token.setAttribute("aria-label", `${name}: ${token.dataset.says}`);
    }));
    const place = Math.min(1, bound / full) * 50;
    at("low").style.left = `${50 - place}%`;
    at("high").style.left = `${50 + place}%`;
    at("least").textContent = number(-full);
    at("most").textContent = number(full);
    const drawn = data.covariance ? "drawn from the activations’ covariance" : "isotropic, as the file does not say how activations vary";
    at("within").textContent = `95 % of random directions lie within ±${number(bound).slice(1)} at these tokens (marks on the scale; ${drawn}).`;
    const share = all.filter(x => x > bound).length / all.length;
    at("share").textContent = `${tabs[label].textContent}: ${(100 * share).toFixed(0)} % of tokens lie beyond and are underlined.`;
    document.querySelector(".scale").setAttribute("aria-label", `Colours from ${number(-full)} to ${number(full)}`);
    document.querySelector("output").textContent = data.layers[layer];
    slider.setAttribute("aria-valuetext", data.layers[layer]);
    at("panel").setAttribute("aria-labelledby", `tab-${label}`);
    tip.hidden = true;
  }

  function choose(tab) {
    label = tabs.indexOf(tab);
    for (const other of tabs) {
      other.setAttribute("aria-selected", other === tab);
      other.tabIndex = other === tab ? 0 : -1;
    }
    show();
  }

  function step(key, n, i) {  // where an arrow key leads
    const to = { ArrowRight: i + 1, ArrowDown: i + 1, ArrowLeft: i - 1, ArrowUp: i - 1, Home: 0, End: n - 1 }[key];
    return to === undefined ? undefined : Math.max(0, Math.min(n - 1, to));
  }

  function point(token) {
    tip.textContent = token.getAttribute("aria-label");
    tip.hidden = false;
    tip.style.left = "0";
    const box = token.getClientRects()[0] || token.getBoundingClientRect();
    const left = Math.min(box.left + scrollX, document.documentElement.clientWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${box.top + scrollY - tip.offsetHeight - 6}px`;
  }

  for (const tab of tabs) {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", event => {
      const to = step(event.key, tabs.length, tabs.indexOf(tab));
      if (to === undefined) return;
      event.preventDefault();
      tabs[to].focus();
      choose(tabs[to]);
    });
  }
  slider.addEventListener("input", show);
  centred.addEventListener("change", show);
  for (const { box, tokens } of boxes) {
    box.addEventListener("pointerover", event => event.target.classList.contains("token") && point(event.target));
    box.addEventListener("pointerleave", () => { tip.hidden = true; });
    box.addEventListener("focusin", event => {
      for (const token of tokens) {
        token.tabIndex = token === event.target ? 0 : -1;
        token.setAttribute("aria-selected", token === event.target);
      }
      point(event.target);
    });
    box.addEventListener("focusout", () => { tip.hidden = true; });
    box.addEventListener("keydown", event => {
      const to = event.key === "Escape" ? (tip.hidden = true, undefined) : step(event.key, tokens.length, tokens.indexOf(event.target));
      if (to === undefined) return;
      event.preventDefault();
      tokens[to].focus();
    });
  }
  show();
  const fit = () => { if (window.frameElement) window.frameElement.style.height = `${document.documentElement.offsetHeight + 16}px`; };
  try { new ResizeObserver(fit).observe(document.documentElement); } catch { /* in a frame of another origin */ }
