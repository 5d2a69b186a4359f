/** Recognizes files that people give in place of an nginx configuration. Pure. */
import { ConfError } from './parse-conf.ts';

const DUMP = 'the output of "nginx -T"';
const FILES: readonly { pattern: RegExp; what: string; instead: string }[] = [
  {
    pattern: /^#!.*\b(?:ba|da|a|k|z)?sh\b/,
    what: 'a shell script',
    instead: `give the file that it writes, or ${DUMP}`,
  },
  {
    pattern: /^(?:[ \t]*(?:#.*)?\n|ARG [^;\n]*\n)*FROM [^;\n]+\n/i,
    what: 'a Dockerfile',
    instead: `give the nginx.conf that it copies, or ${DUMP}`,
  },
  { pattern: /^```/m, what: 'Markdown', instead: 'give the block with the configuration alone' },
  {
    pattern: /^services:[ \t]*$/m,
    what: 'a Compose file',
    instead: `give the nginx.conf that it mounts, or ${DUMP}`,
  },
  {
    pattern: /^[ \t]*<\/(?:VirtualHost|IfModule|Directory|Location)>/im,
    what: 'a configuration of Apache',
    instead: 'realpod reads logs of nginx',
  },
  {
    pattern: /^(?:frontend|backend) [\w.-]+[ \t]*$/m,
    what: 'a configuration of HAProxy',
    instead: 'realpod reads logs of nginx',
  },
];

/** Throws ConfError, with what to give instead, if the text is known to be another kind of file. */
export function refuseOtherFile(path: string, text: string): void {
  const other = FILES.find(({ pattern }) => pattern.test(text));
  if (other) throw new ConfError(`${path}: ${other.what}, not an nginx configuration; ${other.instead}`);
}
