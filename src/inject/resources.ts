import { Refused } from './refused.ts';

/** Quantities by resource name: `{ cpu: '100m', memory: '128Mi' }`. */
export type Quantities = Readonly<Record<string, string>>;

/** A Kubernetes quantity: apimachinery, pkg/api/resource/quantity.go. */
const QUANTITY = /^\d+(\.\d+)?([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?$/;
const NAMES = ['cpu', 'memory', 'ephemeral-storage'];

/** Parses `cpu=100m,memory=128Mi`, with `defaults`. `option`: the text's origin, for errors. Throws Refused. */
export function quantities(text: string | undefined, defaults: Quantities, option: string): Quantities {
  if (text === undefined) return defaults;
  const given: Record<string, string> = { ...defaults };
  for (const part of text.split(',')) {
    const [name = '', value = '', ...rest] = part.trim().split('=');
    if (!NAMES.includes(name) || !QUANTITY.test(value) || rest.length > 0) {
      throw new Refused(
        `${option}: ${JSON.stringify(part.trim())} is not a resource and its quantity, such as cpu=100m,memory=128Mi`,
      );
    }
    given[name] = value;
  }
  return given;
}

export function checkQuantity(text: string, option: string): void {
  if (!QUANTITY.test(text)) throw new Refused(`${option}: ${text} is not a quantity such as 1Gi`);
}
