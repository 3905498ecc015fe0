// Draws a figure in place of its picture where only the picture is shown, as in the HTML that nbconvert makes.
(async (script, version, integrity, packed) => {
  const output = script.closest(".jp-OutputArea-child, .output_area");
  const picture = output?.previousElementSibling?.querySelector("img");
  if (!picture) return;
  window.plotlyLoaded ??= new Promise((loaded) => {
    if (window.Plotly) return loaded();
    const src = `https://cdn.plot.ly/plotly-${version}.min.js`;
    const tag = Object.assign(document.createElement("script"), { src, integrity, crossOrigin: "anonymous" });
    tag.onload = loaded;
    document.head.append(tag);
  });
  await window.plotlyLoaded;
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const figure = await new Response(unpacked).json();
  const place = document.createElement("div");
  picture.replaceWith(place);
  await window.Plotly.newPlot(place, figure);
})
