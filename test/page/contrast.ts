/// <reference lib="dom" />
/// <reference lib="dom.iterable" />

/**
 * Runs in the browser. The texts that can be seen whose contrast with what is behind them is less than 4.5 to 1 (WCAG 2.2,
 * 1.4.3), each with its ratio.
 */
export function unreadableTexts(): string[] {
  type Color = [number, number, number, number];
  const parse = (text: string): Color => {
    const [r = 0, g = 0, b = 0, a = 1] = (text.match(/[\d.]+/g) ?? []).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a]: Color, [R, G, B]: Color): Color => [
    r * a + R * (1 - a),
    g * a + G * (1 - a),
    b * a + B * (1 - a),
    1,
  ];
  const luminance = (color: Color): number => {
    const [r, g, b] = color.map((c) => {
      const v = c / 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
  };
  const behind = (node: Element | null): Color => {
    if (!node) return [255, 255, 255, 1];
    const own = parse(getComputedStyle(node).backgroundColor);
    return own[3] === 1 ? own : over(own, behind(node.parentElement));
  };
  const found = new Set<string>();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    const parent = text.parentElement!;
    if (!text.textContent?.trim() || !parent.checkVisibility() || parent.closest('.hidden, noscript, option'))
      continue;
    const back = behind(parent);
    const front = over(parse(getComputedStyle(parent).color), back);
    const [high, low] = [luminance(front), luminance(back)].sort((a, b) => b - a) as [number, number];
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) found.add(`${text.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return [...found];
}
