#!/usr/bin/env node
import { COMMANDS } from './config/commands.ts';
import { helpText } from './config/help.ts';
import { UsageError } from './config/option.ts';
import type { Options } from './config/options.ts';
import { readOptions } from './config/read.ts';
import type { DoctorOptions } from './doctor/command.ts';
import type { InjectCommandOptions } from './inject/command.ts';

async function main(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    process.stdout.write(helpText(COMMANDS.find((command) => command.name === rest[0])));
    return name === undefined ? 2 : 0;
  }
  const command = COMMANDS.find((spec) => spec.name === name);
  if (!command) throw new UsageError(`there is no command ${name}; see realpod --help`);
  if (rest.includes('--help') || rest.includes('-h')) {
    process.stdout.write(helpText(command));
    return 0;
  }
  const options = readOptions(command, rest, process.env);
  // Each command's code is loaded when it is asked for: a sidecar must not pay for a helper's packages.
  switch (command.name) {
    case 'sidecar':
      return (await import('./sidecar.ts')).runSidecar(options);
    case 'helper':
      return (await import('./helper.ts')).runHelper(options);
    case 'doctor':
      return (await import('./doctor/command.ts')).run(doctorOptions(options));
    case 'inject':
      return (await import('./inject/command.ts')).runInject(injectOptions(options));
    case 'enrich':
      return (await import('./enrich/command.ts')).runEnrich(
        options,
        process.stdin,
        process.stdout,
        process.stderr,
      );
    case 'record': {
      const { recordOptions, runRecord } = await import('./enrich/record.ts');
      const { untilSignal } = await import('./signals.ts');
      return runRecord(recordOptions(options), untilSignal(), say);
    }
    case 'lookup': {
      const { lookOf } = await import('./terminal/table.ts');
      const look = lookOf(process.stdout, process.env);
      return (await import('./terminal/lookup.ts')).runLookup(options, process.stdout, look);
    }
    case 'tail': {
      const { lookOf } = await import('./terminal/table.ts');
      const { untilSignal } = await import('./signals.ts');
      const ending = new AbortController();
      void untilSignal().then(() => ending.abort());
      const look = lookOf(process.stdout, process.env);
      return (await import('./terminal/tail.ts')).runTail(options, process.stdout, look, say, ending.signal);
    }
    default:
      return (await import('./demo/command.ts')).runDemo(options);
  }
}

const say = (text: string): void => void process.stderr.write(`realpod: ${text}\n`);

function doctorOptions(options: Options): DoctorOptions {
  const [input] = options.positionals;
  if (input === undefined && process.stdin.isTTY) {
    throw new UsageError('give a configuration file, or: nginx -T | realpod doctor');
  }
  const requestIdField = options.optional('request-id-field')?.replace(/^\$/, '');
  const localPortField = options.optional('local-port-field')?.replace(/^\$/, '');
  return {
    input: input ?? '-',
    fix: options.flag('fix'),
    requestIdHeader: options.text('request-id-header'),
    color: process.stdout.isTTY === true,
    ...(requestIdField === undefined ? {} : { requestIdField }),
    ...(localPortField === undefined ? {} : { localPortField }),
  };
}

function injectOptions(options: Options): InjectCommandOptions {
  const [file] = options.positionals;
  if (file === undefined && process.stdin.isTTY) {
    throw new UsageError('give a manifest, or: realpod inject < deployment.yaml');
  }
  return {
    file: file ?? '-',
    container: options.optional('container'),
    image: options.text('image'),
    logVolumeSize: options.text('log-volume-size'),
  };
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    const known = error instanceof UsageError;
    const message = error instanceof Error ? error.message : String(error);
    process.stderr.write(`realpod: ${message}\n`);
    process.exitCode = known ? 2 : 1;
  },
);
