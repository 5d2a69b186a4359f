import { COMMAND } from '../config/commands.ts';
import { environmentName, optionName, UsageError } from '../config/option.ts';
import { readOptions } from '../config/read.ts';
import type { InjectOptions } from '../inject/plan.ts';

const PREFIX = 'realpod.io/';
/** Options of `realpod inject` that a pod may set. Only the webhook's options set the image. */
const OF_INJECT = ['container', 'logPath', 'logVolumeSize', 'limits', 'requests'] as const;
/** Variables that inject sets. */
const FIXED = new Set(['accessLog', 'state', 'reclaim', 'tokenFile', 'readyFile']);

/** The options in a pod's annotations `realpod.io/OPTION`; undefined if `realpod.io/inject` disables the sidecar. */
export function optionsOf(
  annotations: Readonly<Record<string, string>>,
  defaults: InjectOptions,
): { options: InjectOptions; warnings: string[] } | undefined {
  if (/^(false|disabled|no|off)$/i.test(annotations[`${PREFIX}inject`] ?? '')) return undefined;
  const options: InjectOptions = { ...defaults };
  const env: Record<string, string> = {};
  const warnings: string[] = [];
  for (const [key, value] of Object.entries(annotations)) {
    if (!key.startsWith(PREFIX) || key === `${PREFIX}inject`) continue;
    const name = `--${key.slice(PREFIX.length)}`;
    const own = OF_INJECT.find((each) => optionName(each) === name);
    if (own) {
      options[own] = value;
      continue;
    }
    const option = Object.keys(COMMAND.sidecar.options).find((each) => optionName(each) === name);
    if (option === undefined || FIXED.has(option)) {
      warnings.push(`realpod: ${key} is not an option of a pod and is ignored`);
      continue;
    }
    const wrong = complaint({ [environmentName(option)]: value });
    if (wrong === undefined) env[environmentName(option)] = value;
    else warnings.push(`realpod: ${key} is ignored: ${wrong}`);
  }
  return { options: { ...options, env: { ...defaults.env, ...env } }, warnings };
}

/** Checks the options: a sidecar with invalid options would end, and nginx's pod would not be ready. */
function complaint(env: Record<string, string>): string | undefined {
  try {
    readOptions(COMMAND.sidecar, [], { HOST_IP: '127.0.0.1', ...env });
    return undefined;
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
}
