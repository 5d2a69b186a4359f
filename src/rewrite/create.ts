import type { LogFormat } from '../parse/log-format.ts';
import { AnnotateStyle } from './annotate.ts';
import type { ClientMode } from './client.ts';
import { JsonStyle } from './json.ts';
import { ReplaceStyle } from './replace.ts';
import { Style } from './style.ts';

/** Whether the output of this style can show the real client. */
export function showsClient(style: StyleName, clientMode: ClientMode): boolean {
  return clientMode === 'replace' || (clientMode === 'annotate' && style !== 'replace');
}

export type StyleName = 'replace' | 'annotate' | 'json';

export function createStyle(name: StyleName, format: LogFormat, clientMode: ClientMode = 'off'): Style {
  switch (name) {
    case 'replace':
      return new Style(new ReplaceStyle(clientMode));
    case 'annotate':
      return new Style(new AnnotateStyle(clientMode));
    case 'json':
      return new Style(new JsonStyle(format));
  }
}
