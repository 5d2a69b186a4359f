/** `realpod helper --check`: what this node can give, for people. */
import { checkNode, type NodeFinding } from './capture/check.ts';
import type { HelperOptions } from './config/commands.ts';
import type { Log } from './log.ts';
import { asCaptureOptions } from './start-capture.ts';

/** 0 if the node can give all of the wanted sources, else 1. */
export async function checkSources(options: HelperOptions, log: Log): Promise<0 | 1> {
  const findings = await checkNode(asCaptureOptions(options, log));
  const { text, code } = nodeReport(findings, options.sources);
  process.stdout.write(text);
  return code;
}

/** One line for each finding, and one with the conclusion. */
export function nodeReport(
  findings: readonly NodeFinding[],
  wanted: readonly string[],
): { text: string; code: 0 | 1 } {
  const lines = findings.map(({ subject, can, says }) => {
    const answer = can === undefined ? '' : can ? 'yes' : 'no';
    return `${subject.padEnd(11)}  ${answer.padEnd(3)}  ${says}\n`;
  });
  const missing = findings.filter(({ subject, can }) => can === false && wanted.includes(subject));
  const conclusion =
    missing.length === 0
      ? `This node can give all of --sources ${wanted.join(',')}.\n`
      : `This node cannot give ${missing.map(({ subject }) => subject).join(' and ')} of --sources ${wanted.join(',')}.\n`;
  return { text: lines.join('') + conclusion, code: missing.length === 0 ? 0 : 1 };
}
