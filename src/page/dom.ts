/// <reference lib="dom" />
/// <reference lib="dom.iterable" />

/** Text goes in as text nodes only: log lines are written by strangers. */
export type Child = Node | string | undefined;

interface Properties {
  class?: string;
  title?: string;
  scope?: string;
  href?: string;
  value?: string;
  max?: string;
  type?: string;
  label?: string;
  onclick?: () => void;
}

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Properties = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    if (name === 'onclick') node.addEventListener('click', value as () => void);
    else node.setAttribute(name === 'label' ? 'aria-label' : name, String(value));
  }
  node.append(...children.filter((child) => child !== undefined));
  return node;
}

/** The element of index.html with this id. */
export function byId<E extends HTMLElement = HTMLElement>(id: string): E {
  return document.getElementById(id) as E;
}

/** Sets the text where it differs, so that nothing is announced or laid out again for nothing. */
export function setText(node: Node, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}
