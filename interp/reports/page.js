  const read = id => JSON.parse(document.getElementById(id).textContent);
  const figures = read("figures");
  const missing = typeof Plotly === "undefined";  // the library lies beside the page, unless the page holds it
  const lost = document.getElementById("lost");
  if (lost) lost.hidden = !missing;
  const pointer = matchMedia("(hover: hover)").matches;  // on a touch screen, a drag scrolls the page
  const options = { responsive: true, displayModeBar: false };  // seven more stops of Tab in each figure
  const together = {};  // sliders by what they move along: those along layers go to the same layer

  const make = (kind, fields, ...inside) => {
    const made = Object.assign(document.createElement(kind), fields);
    made.append(...inside);
    return made;
  };

  function draw(plot) {
    const variants = figures[plot.dataset.figure], section = plot.closest("section, figure");
    const named = plot.getAttribute("aria-label"), frame = plot.parentElement;
    let variant = "all", step = null;
    const move = () => {
      const { method, args } = variants[variant].slider.steps[step];
      Plotly[method](plot, ...args);
    };
    const show = () => {
      const { data, layout } = variants[variant];
      const { sliders, ...rest } = layout;
      variants[variant].slider ??= sliders?.[0];
      const narrow = !layout.width && frame.clientWidth < 520;  // a legend has one name in a row
      const fitted = narrow ? { font: { size: 12 }, height: layout.height + 90 } : {};
      Plotly.react(plot, data, { ...rest, ...fitted, ...(pointer ? {} : { dragmode: false }) }, options);
      if (step !== null) move();
    };
    show();

    const slider = variants.all.slider;
    if (slider?.steps.length > 1) {  // a native one, for the keyboard, instead of plotly's
      step = slider.active;
      const what = slider.currentvalue.prefix.trim(), says = make("output", {});
      const range = make("input", { type: "range", min: 0, max: slider.steps.length - 1, step: 1 });
      const go = to => {
        step = range.value = to;
        says.textContent = slider.steps[step].label;
        range.setAttribute("aria-valuetext", `${what} ${slider.steps[step].label}`);
        move();
      };
      range.setAttribute("aria-label", `${what}, ${named}`);
      range.dataset.along = what;
      (together[what] ??= []).push(label => {
        const to = slider.steps.findIndex(each => each.label === label);
        if (to >= 0 && to !== step) go(to);
      });
      range.addEventListener("input", () => {
        go(Number(range.value));
        for (const follow of together[what]) follow(slider.steps[step].label);
      });
      let controls = section.querySelector(".controls");
      if (!controls) section.insertBefore(controls = make("div", { className: "controls" }), frame);
      controls.append(make("label", {}, make("span", { textContent: what[0].toUpperCase() + what.slice(1) }), range, says));
      go(step);
    }
    section.querySelector("select[data-rounds]")?.addEventListener("change", event => {
      variant = event.target.value;
      show();
      for (const n of section.querySelectorAll(".n")) n.hidden = n.dataset.rounds !== variant;
    });

    const width = variants.all.layout.width;  // what has one is drawn smaller on a phone, so that nothing is cut
    const fit = () => {
      const scale = Math.min(1, Math.max(0.5, frame.clientWidth / width)), cut = frame.clientWidth < width / 2;
      plot.style.transform = scale < 1 ? `scale(${scale})` : "";
      frame.style.height = scale < 1 ? `${Math.ceil(scale * variants.all.layout.height)}px` : "";
      frame.style.overflow = cut ? "auto hidden" : "clip";
      cut ? frame.setAttribute("tabindex", 0) : frame.removeAttribute("tabindex");
    };
    if (width) {
      plot.style.transformOrigin = "0 0";
      new ResizeObserver(fit).observe(frame);
      fit();
    }
  }
  if (!missing) document.querySelectorAll("[data-figure]").forEach(draw);

  const reload = document.getElementById("reload");  // of a page that is written again and again
  if (reload) setInterval(() => reload.checked && location.reload(), 1000 * reload.dataset.every);
