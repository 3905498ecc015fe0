  const figures = JSON.parse(document.getElementById("figures").textContent);
  const pointer = matchMedia("(hover: hover)").matches;  // on a touch screen, a drag scrolls the page
  const options = { responsive: true, displaylogo: false, displayModeBar: pointer && (document.body.dataset.bar || false), modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  for (const plot of document.querySelectorAll("[data-figure]")) {
    const variants = figures[plot.dataset.figure];
    const show = variant => {
      const { data, layout } = variants[variant];
      Plotly.react(plot, data, pointer ? layout : { ...layout, dragmode: false }, options);
    };
    show("all");
    const section = plot.closest("section, figure");
    for (const button of section.querySelectorAll("button[data-rounds]")) {
      button.addEventListener("click", () => {
        show(button.dataset.rounds);
        for (const other of section.querySelectorAll("button[data-rounds]"))
          other.setAttribute("aria-pressed", other === button);
        for (const n of section.querySelectorAll(".n"))
          n.hidden = n.dataset.rounds !== button.dataset.rounds;
      });
    }
  }
