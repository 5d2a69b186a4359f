/** Detects templates: text from which a tool makes a configuration, and which nginx cannot read. Pure. */
import { ConfError, placeOf } from './parse-conf.ts';

/** `rendered`: the tool that makes a configuration of each kind. */
const KINDS: readonly { pattern: RegExp; rendered: string }[] = [
  { pattern: /\{\{[^\n]*?\}\}/g, rendered: 'helm template, or the tool that fills it in' },
  { pattern: /\{[%#][^\n]*?[%#]\}/g, rendered: 'the tool that fills it in, such as ansible or jinja2' },
  {
    pattern:
      /\[\[-? *(?:\.[A-Za-z]|\$[a-z]|(?:range|if|else|end|with|key|keyOrDefault|env|secret|service|index)\b)[^\n]*?\]\]/g,
    rendered: 'consul-template, or nomad',
  },
  { pattern: /%\{ *(?:if|else|endif|for|endfor)\b[^}\n]*\}/g, rendered: 'terraform' },
  { pattern: /\$\{[a-z_]\w*(?:\.\w+|\()[^}\n]*\}/g, rendered: 'terraform' },
  {
    pattern: /(?<=[\s/"'])@@?[A-Za-z]\w*@@?(?=[\s/"':;])/g,
    rendered: 'the tool that fills it in, such as configure or sed',
  },
  { pattern: /<%[^\n]*?%>/g, rendered: 'the tool that fills it in, such as erb' },
  { pattern: /\$\{[A-Z][A-Z0-9_]*(?::?[-+=?][^}\n]*)?\}/g, rendered: 'envsubst' },
  { pattern: /(?<=[\s/"'])\$[A-Z][A-Z0-9]*_[A-Z0-9_]+\b/g, rendered: 'envsubst' },
  { pattern: /(?<=^[ \t]*)(?:ifdef|ifelse|define|changequote|include)\([`'\w]+/gm, rendered: 'm4' },
];
/** nginx accepts the names of its variables in capitals, too. */
const NGINX_VARIABLE =
  /^(ARG|COOKIE|HTTP|SENT_HTTP|SENT_TRAILER|UPSTREAM|SSL|PROXY_PROTOCOL|TIME|REQUEST|REMOTE|SERVER|BODY_BYTES|BYTES|BINARY_REMOTE|CONTENT|DOCUMENT|QUERY|CONNECTION|REALPATH|LIMIT|NGINX_VERSION|JWT|GEOIP\d?)_?/;

/** Throws ConfError if the text is a template that is not rendered. */
export function refuseTemplate(path: string, text: string): void {
  // Comments may have any text; in Lua `{{1, 2}}` is a table and `[[text]]` a string.
  const bare = text.replace(/(?<=^|[ \t;}])#(?!\}).*$/gm, (comment) => ' '.repeat(comment.length));
  const lua = /_by_lua_block\b/.test(bare);
  for (const { pattern, rendered } of KINDS) {
    for (const { 0: found, index } of bare.matchAll(pattern)) {
      if (lua && /^(?:\{\{|\[\[)(?!-?[ \t]*[.$])/.test(found)) continue;
      if (found.startsWith('$') && isVariable(found, bare)) continue;
      throw new ConfError(
        `${placeOf({ path, text }, index)}: ${found} is a placeholder of a template: render it first (${rendered}), or give the output of nginx -T`,
      );
    }
  }
}

/** A Helm action at the beginning of a line or of a value. */
const ACTION =
  /^(?: *(?:[\w.-]+: *)?)(\{\{-? *(?:[.$"(]|\/\*|(?:if|else|end|range|with|define|block|template|include|toYaml|tpl|default)\b)[^\n]*)/m;

/** Throws ConfError if the YAML around the files is a chart's template. */
export function refuseChart(path: string, text: string): void {
  const action = ACTION.exec(text);
  if (!action) return;
  const at = action.index + action[0].length - (action[1] ?? '').length;
  throw new ConfError(
    `${placeOf({ path, text }, at)}: a chart's template; render it first: helm template CHART | realpod doctor`,
  );
}

function isVariable(found: string, text: string): boolean {
  const name = found.replace(/[${}]/g, '');
  if (NGINX_VARIABLE.test(name)) return true;
  return new RegExp(
    `\\b(set|map|geo|js_set|perl_set|auth_request_set|split_clients|set_by_lua\\w*)\\b[^;{]*\\$${name}\\b`,
    'i',
  ).test(text);
}
