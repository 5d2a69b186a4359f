import type { LogFormat } from '../parse/log-format.ts';
import { AnnotateStyle } from './annotate.ts';
import { JsonStyle } from './json.ts';
import { ReplaceStyle } from './replace.ts';
import { Style } from './style.ts';

export type StyleName = 'replace' | 'annotate' | 'json';

export function createStyle(name: StyleName, format: LogFormat): Style {
  switch (name) {
    case 'replace':
      return new Style(new ReplaceStyle());
    case 'annotate':
      return new Style(new AnnotateStyle());
    case 'json':
      return new Style(new JsonStyle(format));
  }
}
