/// <reference lib="dom" />
/// <reference lib="dom.iterable" />

/** Text becomes text nodes only: clients control parts of log lines. */
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

/** Sets the text if it differs, so that equal text causes no announcement and no layout. */
export function setText(node: Node, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}
