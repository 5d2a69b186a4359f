import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Directive, parseConf } from '../../src/doctor/parse-conf.ts';
import { assemble, type Disk, fromDisk, fromDump, fromText, isDump } from '../../src/doctor/sources.ts';
import { fitsPath, fitsSegment } from '../../src/doctor/wildcard.ts';

function parse(text: string): Directive[] {
  return parseConf({ path: 'nginx.conf', text });
}

/** Names, arguments and blocks alone. */
function plain(directives: readonly Directive[]): unknown[] {
  return directives.map((d) => {
    const words = [d.name, ...d.args.map((a) => a.text)];
    return d.children ? [words, plain(d.children)] : words;
  });
}

const READ: readonly (readonly [string, string, unknown[]])[] = [
  ['words, tabs and CRLF', 'a\tb  c;\r\n d;\r\n', [['a', 'b', 'c'], ['d']]],
  ['comments, also after code and at the end', '# x { ; "\na; # b;\n# end', [['a']]],
  ['a # inside a word', 'return 301 http://x/#top;', [['return', '301', 'http://x/#top']]],
  ['quotes inside a word', `a b"c'd;`, [['a', `b"c'd`]]],
  [
    'both kinds of quotes with escapes',
    `a "x \\"y\\" 'z'" 'p "q" \\'r\\'';`,
    [['a', `x "y" 'z'`, `p "q" 'r'`]],
  ],
  ['strings over several lines', 'a "b\n  c" d;', [['a', 'b\n  c', 'd']]],
  ['separators inside strings', `a "b;{c}#d";`, [['a', 'b;{c}#d']]],
  ['unknown escapes keep the backslash', 'location ~ \\.php$ { }', [[['location', '~', '\\.php$'], []]]],
  ['known escapes', 'a "\\t\\\\";', [['a', '\t\\']]],
  ['an escaped separator', 'a b\\;c;', [['a', 'b\\;c']]],
  ['a variable in braces', `set $x \${host}a{ }`, [[['set', '$x', `\${host}a`], []]]],
  ['a closing brace inside a word', 'a b}c;', [['a', 'b}c']]],
  ['a block right after a word', 'http{server{a;}}', [[['http'], [[['server'], [['a']]]]]]],
  ['a parenthesis right after a string', 'if ($a = "b") { c; }', [[['if', '($a', '=', 'b', ')'], [['c']]]]],
  ['an empty string as a name', 'map $a $b { "" $c; }', [[['map', '$a', '$b'], [['', '$c']]]]],
  ['a Lua block', 'a_by_lua_block { x = "}" -- }\n y = [[}]] } b;', [[['a_by_lua_block'], []], ['b']]],
  [
    'a Lua block with arguments',
    'set_by_lua_block $a{ return 1 } b;',
    [[['set_by_lua_block', '$a'], []], ['b']],
  ],
  [
    'Lua long comments and escapes',
    `l_by_lua_block { --[==[ } ]] ]==] x = '\\'}' {} }`,
    [[['l_by_lua_block'], []]],
  ],
  ['nothing', ' \n', []],
];

for (const [what, text, tree] of READ) {
  test(`read: ${what}`, () => assert.deepEqual(plain(parse(text)), tree));
}

const REFUSED: readonly (readonly [string, string, RegExp])[] = [
  ['a block left open', 'a;\nhttp {\n b;\n', /^nginx\.conf:2: the block "http" is never closed/],
  ['a directive left open', 'a;\nb c', /^nginx\.conf:2: the file ends inside a directive/],
  ['a brace too many', 'a;\n}\n', /^nginx\.conf:2: unexpected "}": no block/],
  ['a semicolon missing', 'http {\n a b\n}', /^nginx\.conf:3: unexpected "}": is a ";" missing/],
  ['a lone semicolon', ';', /^nginx\.conf:1: unexpected ";"/],
  ['a lone brace', '{', /^nginx\.conf:1: unexpected "{"/],
  ['a string left open', 'a;\n b "c;\n', /^nginx\.conf:2: a string that begins here with " never ends/],
  ['text glued to a string', 'a "b"c;', /^nginx\.conf:1: unexpected "c" right after a quoted string/],
  [
    'a Lua block left open',
    'a_by_lua_block { "}" ',
    /^nginx\.conf:1: the Lua block "a_by_lua_block" is never closed/,
  ],
  ['endless nesting', 'a {'.repeat(200), /nested more than 100 deep/],
];

for (const [what, text, message] of REFUSED) {
  test(`refused with file and line: ${what}`, () => {
    assert.throws(() => parse(text), { name: 'Error', message });
  });
}

test('every token knows its place in the text', () => {
  const text = `log_format  a 'b' "c\\"" d;`;
  const spans = parse(text)[0]!.args.map((t) => text.slice(t.start, t.end));
  assert.deepEqual(spans, ['a', "'b'", '"c\\""', 'd']);
});

const FITS: readonly (readonly [string, string, boolean])[] = [
  ['*.conf', 'a.conf', true],
  ['*.conf', '.a.conf', false],
  ['*.conf', 'a.conf.bak', false],
  ['a*b*c', 'aXbYbZc', true],
  ['a*b*c', 'aXbYbZ', false],
  ['?.conf', 'ab.conf', false],
  ['[a-c]?.conf', 'b1.conf', true],
  ['[!a-c]*', 'b', false],
  ['[^a]*', 'b', true],
  ['[a', '[a', true],
  ['*', '', true],
];

for (const [pattern, name, fits] of FITS) {
  test(`the pattern ${pattern} ${fits ? 'takes' : 'leaves'} "${name}"`, () => {
    assert.equal(fitsSegment(pattern, name), fits);
  });
}

test('a * does not cross a slash', () => {
  assert.equal(fitsPath('/etc/*/a.conf', '/etc/nginx/a.conf'), true);
  assert.equal(fitsPath('/etc/*.conf', '/etc/nginx/a.conf'), false);
});

function disk(files: Readonly<Record<string, string>>): Disk {
  return {
    read: (path) => files[path] ?? null,
    list(directory) {
      const prefix = directory === '.' ? '' : `${directory}/`;
      const names = Object.keys(files).filter((p) => p.startsWith(prefix));
      const children = names.map((p) => p.slice(prefix.length).split('/')[0]!);
      return children.length > 0 ? [...new Set(children)] : null;
    },
  };
}

function names(directives: readonly Directive[]): string[] {
  return directives.flatMap((d) => [d.name, ...names(d.children ?? []), ...names(d.included ?? [])]);
}

test('relative includes are read from the directory of the main file, in order of their names', () => {
  const files = {
    'conf/nginx.conf': 'http { include sites/*.conf; } include extra.conf;',
    'conf/sites/b.conf': 'b;',
    'conf/sites/a.conf': 'include extra.conf;',
    'conf/extra.conf': 'x;',
  };
  const root = assemble(fromDisk('conf/nginx.conf', disk(files)));
  assert.deepEqual(names(root), ['http', 'include', 'include', 'x', 'b', 'include', 'x']);
});

test('a pattern without a match is empty, a missing file is not read', () => {
  const root = assemble(
    fromDisk('nginx.conf', disk({ 'nginx.conf': 'include none/*.conf; include gone.conf;' })),
  );
  assert.deepEqual(
    root.map((d) => d.included),
    [[], null],
  );
});

test('absolute includes outside the directory of the main file are not read', () => {
  const files = {
    '/srv/app/nginx.conf': 'include /etc/abc/b.conf; include /srv/app/b.conf;',
    '/etc/abc/b.conf': 'a;',
    '/srv/app/b.conf': 'b;',
  };
  const root = assemble(fromDisk('/srv/app/nginx.conf', disk(files)));
  assert.deepEqual(
    root.map((d) => d.included?.map((i) => i.name) ?? null),
    [null, ['b']],
  );
});

test('a text from stdin reads none of its includes', () => {
  assert.equal(assemble(fromText('include a.conf;', 'nginx.conf'))[0]!.included, null);
});

test('a file that includes itself is refused', () => {
  const sources = fromDisk('nginx.conf', disk({ 'nginx.conf': 'include nginx.conf;' }));
  assert.throws(() => assemble(sources), /nginx\.conf: includes are nested more than 32 deep/);
});

test('files that include one another many times over are refused', () => {
  const sources = fromDisk('nginx.conf', disk({ 'nginx.conf': 'include nginx.conf; '.repeat(4) }));
  assert.throws(() => assemble(sources), /more than \d+ directives|nested more than/);
});

test('a dump is known by its first line, with messages before it or not', () => {
  assert.equal(isDump('# configuration file /etc/nginx/nginx.conf:\nevents {}\n'), true);
  assert.equal(isDump('nginx: ok\n2026/01/02 03:04:05 [warn] 1#1: x\n# configuration file /a:\n'), true);
  assert.equal(isDump('events {}\n# configuration file /a:\n'), false);
  assert.equal(isDump(''), false);
});

test('the newline that nginx adds to each dumped file is not part of the file', () => {
  const { main, texts } = fromDump('# configuration file /a:\nx;\n\n# configuration file /b:\ny;\n');
  assert.equal(main, '/a');
  assert.deepEqual([...texts], [['/a', 'x;\n']]);
});
