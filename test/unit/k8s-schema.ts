import * as client from '@kubernetes/client-node';

/**
 * Validates manifests against Kubernetes' OpenAPI schemas, from two packages that carry them:
 * - the types that `@kubernetes/client-node` generates from Kubernetes 1.34: unknown fields and wrong types;
 * - `kubernetes-models`, when it is installed: required fields, enumerations and formats too.
 */

interface Attribute {
  baseName: string;
  type: string;
}

type Validator = { new (value: object): { validate(): void } };

/** One line for each thing wrong; empty when all is well. */
export async function problems(manifest: object): Promise<string[]> {
  const { kind, apiVersion } = manifest as { kind: string; apiVersion: string };
  const version = apiVersion.split('/').at(-1) ?? '';
  const type = `${version.charAt(0).toUpperCase()}${version.slice(1)}${kind}`;
  const found = check(manifest, type, kind);
  const model = await modelOf(apiVersion, kind);
  if (model) {
    try {
      new model(manifest).validate();
    } catch (error) {
      found.push((error as Error).message);
    }
  }
  return found;
}

/** Whether the second opinion is there. */
export async function hasModels(): Promise<boolean> {
  return (await modelOf('v1', 'Pod')) !== undefined;
}

async function modelOf(apiVersion: string, kind: string): Promise<Validator | undefined> {
  const name = `kubernetes-models/${apiVersion}/${kind}`;
  try {
    return ((await import(name)) as Record<string, Validator>)[kind];
  } catch {
    return undefined;
  }
}

function check(value: unknown, type: string, path: string): string[] {
  const wrong = (what: string): string[] => [`${path}: ${JSON.stringify(value)} is not ${what}`];
  const list = /^Array<(.*)>$/.exec(type);
  if (list) {
    if (!Array.isArray(value)) return wrong('a list');
    return value.flatMap((item, index) => check(item, list[1] ?? '', `${path}[${index}]`));
  }
  const map = /^\{ \[key: string\]: (.*); \}$/.exec(type);
  if (map) {
    if (!isObject(value)) return wrong('a map');
    return Object.entries(value).flatMap(([key, item]) => check(item, map[1] ?? '', `${path}.${key}`));
  }
  if (type === 'any') return [];
  // What the API server prints may hold `creationTimestamp: null`.
  if (type === 'Date') return value === null || isTime(value) ? [] : wrong('a time');
  if (type === 'IntOrString') {
    return typeof value === 'string' || Number.isInteger(value) ? [] : wrong('a number or text');
  }
  if (type === 'string' || type === 'number' || type === 'boolean') {
    return typeof value === type ? [] : wrong(type);
  }
  const model = (client as unknown as Record<string, { getAttributeTypeMap?(): Attribute[] }>)[type];
  if (!model?.getAttributeTypeMap) return [`${path}: no schema for ${type}`];
  if (!isObject(value)) return wrong(`a ${type}`);
  const attributes = new Map(model.getAttributeTypeMap().map((each) => [each.baseName, each.type]));
  return Object.entries(value).flatMap(([key, item]) => {
    const expected = attributes.get(key);
    return expected === undefined
      ? [`${path}.${key}: unknown field`]
      : check(item, expected, `${path}.${key}`);
  });
}

function isTime(value: unknown): boolean {
  return typeof value === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(value);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
