import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { gzipSync } from 'node:zlib';
import type { App, Reply, Request } from '../app.ts';
import { failure } from '../errors.ts';

/** The built page. A run from source uses the script of the last build. */
const FOLDER = new URL(
  import.meta.url.endsWith('.ts') ? '../../../dist/page/' : '../../page/',
  import.meta.url,
);

const TYPES: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
};

/** Clients write parts of log lines, so only the page's own files may run or load, and only this server is contacted. */
const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-cache',
};

interface Asset {
  type: string;
  plain: Buffer;
  gzip: Buffer;
  etag: string;
}

/** `GET /` and its files under `/page/`. They are read at the first request. */
export function addPageRoutes(app: App): void {
  let assets: Map<string, Asset> | undefined;
  const send = (request: Request, reply: Reply, name: string): Reply => {
    assets ??= loadAssets();
    const asset = assets.get(name);
    if (!asset) throw failure('no-such-route', `there is no page file ${name}`);
    reply.headers({ ...HEADERS, etag: asset.etag, vary: 'accept-encoding' }).type(asset.type);
    if (request.headers['if-none-match'] === asset.etag) return reply.code(304).send();
    if (!/\bgzip\b/.test(request.headers['accept-encoding'] ?? '')) return reply.send(asset.plain);
    return reply.header('content-encoding', 'gzip').send(asset.gzip);
  };
  const html = {
    200: { description: 'The page', content: { 'text/html': { schema: { type: 'string' } } } },
  };
  app.get('/', { schema: { summary: 'The page', response: html } }, (request, reply) =>
    send(request, reply, 'index.html'),
  );
  app.get<{ Params: { file: string } }>('/page/:file', (request, reply) =>
    send(request, reply, request.params.file),
  );
}

function loadAssets(): Map<string, Asset> {
  const assets = new Map<string, Asset>();
  const add = (name: string, file: URL | string): void => {
    const plain = readFileSync(file);
    const etag = `"${createHash('sha256').update(plain).digest('base64url').slice(0, 22)}"`;
    assets.set(name, { type: TYPES[name.split('.').pop()!]!, plain, gzip: gzipSync(plain), etag });
  };
  for (const name of readdirSync(FOLDER)) {
    if (/^[\w-]+\.(html|css|js)$/.test(name)) add(name, new URL(name, FOLDER));
  }
  const { resolve } = createRequire(import.meta.url);
  add('uplot.js', resolve('uplot/dist/uPlot.iife.min.js'));
  add('uplot.css', resolve('uplot/dist/uPlot.min.css'));
  return assets;
}
