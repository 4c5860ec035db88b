"""The look of the page: theme, style sheet, and the script for what Gradio cannot do."""

from __future__ import annotations

from typing import Any


def theme(gr: Any) -> Any:
    """The theme: fonts of the system, as others would be downloaded, and one accent colour.

    Args:
        gr: the module Gradio.
    """
    fonts: dict[str, Any] = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}
    colours = {"primary_hue": "teal", "secondary_hue": "teal", "neutral_hue": "slate"}
    return gr.themes.Default(**fonts, **colours, radius_size="lg").set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="white",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        slider_color="*primary_600",
    )


CSS = """
.gradio-container { padding: 16px !important; }
.gradio-container .main, .gradio-container main { padding: 0 !important; }
#title { padding: 0 !important; }
#title header { display: flex; flex-wrap: wrap; gap: 0 20px; align-items: baseline; }
body:not(:has(#stage)) #title header { max-width: 640px; margin: 24px auto 0; }
#title h1 { font-size: 1.6rem; font-weight: 700; margin: 0; }
#title p, #caption p, #status p, #error p { margin: 0; line-height: 1.45; }
#title p, #caption p { color: var(--block-info-text-color); }
#caption, #status, #error { padding: 0 !important; border: 0; }
#error:not(:has(p)), #caption:not(:has(p)) { display: none; }
#status:has([role=progressbar]) { min-height: 72px; }
#status:not(:has(p)):not(:has([role=progressbar])) { display: none; }
.error { color: #b91c1c; font-weight: 600; overflow-wrap: anywhere; }
.dark .error { color: #fca5a5; }
#work { align-items: flex-start; gap: 24px; }
#controls { flex: 0 0 340px !important; }
#controls:has(#choose:only-child) { flex: 1 1 340px !important; max-width: 640px; margin: 0 auto; }
#controls, #choose, #panel, #settings, #stage { gap: 10px; }
#work:not(:has(#stage)) #photos, #work:not(:has(#stage)) #photos > button { min-height: 240px; }
#stage { flex: 1 1 0 !important; min-width: 0 !important; }
#compare img { touch-action: pan-y; }
#compare button[aria-label=Undo] { display: none; }
#compare .outer .inner { background: white; box-shadow: 0 0 2px #000a; }
#depth { width: fit-content; max-width: 100%; margin: 0 auto 0 0 !important; }
#photos [data-testid=upload-text], #maps [data-testid=upload-text] { font-size: 0; }
#photos span.or, #maps span.or { display: none; }
#photos [data-testid=upload-text]::after { content: "Drop photos here, or click to choose them"; }
#maps [data-testid=upload-text]::after { content: "Drop a depth map here, or click to choose it"; }
#photos [data-testid=upload-text]::after, #maps [data-testid=upload-text]::after {
  font-size: 1rem; padding: 0 12px; text-align: center;
}
#status .progress-level-inner { font: inherit; }
#status .progress-level, #status .progress-bar-wrap { width: 100%; }
#status .progress-bar { background: var(--primary-600); }
#status :is(.meta-text, .progress-text) { display: none; }
#task .wrap:has(label) { flex-direction: column; gap: 4px; }
#task .wrap label { width: 100%; padding: 6px 10px; }
#task .wrap label.selected, #task label:has(input:checked) {
  border-color: var(--primary-600); background: var(--primary-50);
}
.dark #task label:has(input:checked) { background: var(--primary-950); }
:is(button, input, textarea, a, summary, [role=slider], [tabindex]):focus-visible,
#task label:focus-within, label:has(input[type=radio]:focus-visible) {
  outline: 3px solid var(--primary-600, #0d9488) !important; outline-offset: 2px;
}
#panel:not(:has(#restore, #download)) #settings { opacity: 0.5; pointer-events: none; }
#restore, #download, #cancel { min-height: 44px; }
#download, #download_map { white-space: normal; overflow-wrap: anywhere; }
.focusable img { cursor: crosshair; }
.focus-mark {
  position: absolute; width: 36px; height: 36px; margin: -18px 0 0 -18px; border-radius: 50%;
  border: 2px solid white; box-shadow: 0 0 0 2px #0008, inset 0 0 0 1px #0008;
  pointer-events: none; z-index: 1000;
}
@media (min-width: 701px) {
  #stage { position: sticky; top: 16px; }
}
@media (max-width: 700px) {
  .gradio-container { padding: 10px !important; }
  #work { flex-direction: column; gap: 12px; align-items: stretch; }
  #controls, #controls:has(#choose:only-child) { display: contents; }
  #choose { order: 1; } #stage { order: 2; } #panel { order: 3; }
  #task .wrap label { min-height: 44px; }
  #work:has(#stage) #task .wrap:has(label) {
    flex-flow: row nowrap; overflow-x: auto; padding: 4px; margin: 0 -4px;
  }
  #work:has(#stage) #task .wrap label { width: auto; flex: none; white-space: nowrap; }
}
"""

_SCRIPT = """
(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const mouse = (target, kind, x, y) => target.dispatchEvent(new MouseEvent(kind, {
    bubbles: true, cancelable: true, view: window, clientX: x, clientY: y }));

  // The handle of the comparison: arrow keys move it, as they move other sliders.
  const move = (handle, step) => {
    const area = handle.parentElement.getBoundingClientRect();
    const line = handle.querySelector('.inner').getBoundingClientRect();
    const x = line.left + line.width / 2, y = line.top + line.height / 2;
    const to = Math.min(area.right, Math.max(area.left, x + step * area.width));
    mouse(handle, 'mousedown', x, y);
    mouse(window.document.documentElement, 'mousemove', to, y);
    mouse(window.document.documentElement, 'mouseup', to, y);
  };
  const label = () => {
    all('#compare img').forEach((e, n) => { e.alt ||= ['The photo', 'The result'][n]; });
    all('#compare .outer').filter((e) => !e.hasAttribute('tabindex')).forEach(
    (handle) => {
      handle.tabIndex = 0;
      handle.setAttribute('role', 'slider');
      handle.setAttribute('aria-label', 'Border between the photo and the result');
      handle.setAttribute('aria-valuemin', 0);
      handle.setAttribute('aria-valuemax', 100);
      handle.setAttribute('aria-valuenow', 50);
      const tell = () => requestAnimationFrame(() => {
        const area = handle.parentElement.getBoundingClientRect();
        const line = handle.querySelector('.inner').getBoundingClientRect();
        const share = (line.left + line.width / 2 - area.left) / area.width;
        handle.setAttribute('aria-valuenow', Math.round(100 * share));
      });
      handle.addEventListener('focus', tell);
      handle.addEventListener('keydown', (event) => {
        const step = { ArrowLeft: -0.05, ArrowRight: 0.05, Home: -1, End: 1 }[event.key];
        if (step === undefined) return;
        event.preventDefault();
        move(handle, step);
        tell();
      });
    });
  };

  // A click on the photo or its depth map is the point in focus.
  const field = () => document.querySelector('#focus textarea, #focus input');
  const pictures = () => all('#compare img, #depth img').filter((e) => e.offsetWidth);
  const mark = () => {
    const input = field();
    all('#compare, #depth').forEach((e) => e.classList.toggle('focusable', !!input));
    const [x, y] = (input ? input.value : '').split(',').map(parseFloat);
    for (const area of all('#compare, #depth')) {
      const image = pictures().find((e) => area.contains(e));
      let ring = area.querySelector('.focus-mark');
      if (!image || !(x >= 0 && x <= 1 && y >= 0 && y <= 1)) { ring?.remove(); continue; }
      ring ??= area.appendChild(Object.assign(document.createElement('div'),
        { className: 'focus-mark' }));
      const box = shown(image), outer = area.getBoundingClientRect();
      const left = `${box.left - outer.left + x * box.width}px`;
      const top = `${box.top - outer.top + y * box.height}px`;
      if (ring.style.left !== left) ring.style.left = left;
      if (ring.style.top !== top) ring.style.top = top;
    }
  };
  // The part of an element that its picture fills (object-fit: contain).
  const shown = (image) => {
    const box = image.getBoundingClientRect();
    const scale = Math.min(box.width / image.naturalWidth, box.height / image.naturalHeight);
    const width = scale * image.naturalWidth, height = scale * image.naturalHeight;
    const fits = getComputedStyle(image).objectFit === 'contain';
    if (!fits || !scale) return box;
    return { left: box.left + (box.width - width) / 2, top: box.top + (box.height - height) / 2,
      width, height };
  };
  let pressed = null;
  const pick = (event) => {
    const area = event.target.closest?.('#compare, #depth'), input = field();
    if (!area || !input || !pressed || event.target.closest('button, .outer')) return;
    if (Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) > 5) return;
    const image = pictures().find((e) => area.contains(e));
    if (!image) return;
    const box = shown(image);
    const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
    if (!(x >= 0 && x <= 1 && y >= 0 && y <= 1)) return;
    input.value = `${x.toFixed(3)}, ${y.toFixed(3)}`;
    input.dispatchEvent(new Event('input', { bubbles: true }));
    input.dispatchEvent(new Event('blur'));
    mark();
  };
  addEventListener('pointerdown', (event) => { pressed = [event.clientX, event.clientY]; }, true);
  addEventListener('pointerup', pick, true);

  // The wheel scrolls the page; on the picture it would zoom.
  addEventListener('wheel', (event) => {
    if (event.target.closest?.('#compare') && !document.fullscreenElement) event.stopPropagation();
  }, true);

  const update = () => { label(); mark(); };
  const start = () => {
    new MutationObserver(update).observe(document.body, { childList: true, subtree: true });
    update();
  };
  if (document.readyState === 'complete') start(); else addEventListener('load', start);
  addEventListener('change', (event) => event.target.closest?.('#task label')?.scrollIntoView(
    { block: 'nearest', inline: 'nearest', behavior: 'smooth' }));
  addEventListener('resize', mark);
  addEventListener('load', mark, true);  // pictures
})();
"""
HEAD = f"<script>{_SCRIPT}</script>"
"""What is added to the head of the page."""
