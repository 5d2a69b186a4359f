import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, mkdtempSync, readdirSync } from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Page } from 'playwright-core';
import { type Browser, browserObstacle, startBrowser } from './browser.ts';
import { type Product, startProduct } from './product.ts';
import { SCENE } from './traffic.ts';

const obstacle = browserObstacle();
const skip = obstacle ?? false;
const LIMIT_MS = 20_000;
/** Where the pictures go. */
const PICTURES =
  process.env.REALPOD_PICTURES ?? (skip ? '' : mkdtempSync(join(tmpdir(), 'realpod-pictures-')));
const ROWS = '#line-table tbody tr';
const SICK = SCENE.flatMap(({ pods }) => pods).filter(({ failing, slow }) => failing > 0 || slow > 1);

let product: Product;
let browser: Browser;
let page: Page;
/** What went wrong in the browser, and what it asked of others than the sidecar. */
const complaints: string[] = [];

before(
  async () => {
    if (skip) return;
    product = await startProduct();
    browser = await startBrowser();
    page = await openPage('light');
  },
  { timeout: 60_000 },
);

after(async () => {
  await browser?.close();
  await product?.stop();
});

async function openPage(colorScheme: 'light' | 'dark'): Promise<Page> {
  const opened = await browser.context.newPage();
  opened.setDefaultTimeout(LIMIT_MS);
  opened.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
  });
  opened.on('pageerror', (error) => complaints.push(String(error)));
  opened.on('request', (request) => {
    if (!request.url().startsWith(`${product.url}/`) && !request.url().startsWith('data:'))
      complaints.push(`asked ${request.url()}`);
  });
  await opened.emulateMedia({ colorScheme });
  await opened.goto(product.url);
  await opened.locator(ROWS).first().waitFor();
  return opened;
}

/** Waits until the page makes `condition` true. */
const until = (condition: (argument: string) => boolean, argument = ''): Promise<unknown> =>
  page.waitForFunction(condition, argument, { timeout: LIMIT_MS });

const firstRow = () => page.locator(ROWS).first().innerText();

test('the live list moves, stands still while paused, and goes on with what came meanwhile', {
  skip,
}, async () => {
  const shown = await firstRow();
  await until(
    (text) => document.querySelector<HTMLElement>('#line-table tbody tr')?.innerText !== text,
    shown,
  );
  await page.getByRole('button', { name: 'Pause' }).click();
  await page.getByText(/\d+ new/).waitFor();
  const held = await firstRow();
  await until(() => Number(/^\d+/.exec(document.getElementById('lines-note')!.textContent!)?.[0]) > 20);
  assert.equal(await firstRow(), held);
  await page.getByRole('button', { name: 'Go on' }).click();
  await until(
    (text) => document.querySelector<HTMLElement>('#line-table tbody tr')?.innerText !== text,
    held,
  );
});

test('filters hold for old lines and new ones, survive a reload, and are cleared', { skip }, async () => {
  await page.getByLabel('Status').fill('5xx');
  await page.getByLabel('Path').fill('catalog');
  const foreign = () =>
    page.locator(ROWS).evaluateAll(
      (rows) =>
        rows.filter((row) => {
          const [, status, request] = [...row.children].map((cell) => cell.textContent ?? '');
          return !status!.startsWith('5') || !request!.includes('catalog');
        }).length,
    );
  await until(() => {
    const rows = [...document.querySelectorAll('#line-table tbody tr')];
    return rows.length > 3 && rows.every((row) => row.children[1]!.textContent!.startsWith('5'));
  });
  const count = await page.locator(ROWS).count();
  await until((n) => document.querySelectorAll('#line-table tbody tr').length > Number(n), String(count));
  assert.equal(await foreign(), 0);
  await page.reload();
  await page.locator(ROWS).first().waitFor();
  assert.equal(await page.getByLabel('Status').inputValue(), '5xx');
  assert.equal(await foreign(), 0);
  await page.getByRole('button', { name: 'Clear' }).click();
  await until(() =>
    [...document.querySelectorAll('#line-table tbody tr')].some(
      (row) => row.children[1]!.textContent === '200',
    ),
  );
});

test('the pods that are ill are marked, their siblings are not, and each row leads to its lines', {
  skip,
}, async () => {
  await until(
    (count) => document.querySelectorAll('tr.outlier').length === Number(count),
    String(SICK.length),
  );
  for (const { pod, failing } of SICK) {
    const row = page.getByRole('row').filter({ hasText: pod });
    assert.equal(await row.locator('.badge').first().innerText(), failing > 0 ? 'failing' : 'slow');
    assert.equal(await page.locator('#outliers li').filter({ hasText: pod }).count(), 1);
  }
  const total = SCENE.reduce((sum, { pods }) => sum + pods.length, 0);
  assert.equal(await page.locator('#services tbody tr').count(), total);
  assert.equal(await page.locator('#services canvas').count(), SCENE.length * 3);
  const [{ pod }] = SICK as [(typeof SICK)[number]];
  await page.locator('#services').getByRole('button', { name: pod }).click();
  await until((name) => {
    const rows = [...document.querySelectorAll('#line-table tbody tr')];
    return rows.length > 3 && rows.every((row) => row.children[3]!.textContent === name);
  }, pod);
  await page.getByRole('button', { name: 'Clear' }).click();
});

test('a line shows how it was matched, with the keyboard alone', { skip }, async () => {
  await page.locator(`${ROWS} button`).nth(3).focus();
  await page.keyboard.press('Enter');
  const detail = page.locator('#detail');
  await detail.getByText('As nginx wrote it').waitFor();
  await detail.getByText('request-id').first().waitFor();
  assert.equal(await detail.locator('mark').count(), 1);
  await detail.getByRole('button', { name: 'look it up' }).focus();
  await page.keyboard.press('Enter');
  await page.locator('#answer').getByText('conntrack').first().waitFor();
  await detail.getByRole('button', { name: 'Close' }).focus();
  await page.keyboard.press('Escape');
  await detail.waitFor({ state: 'hidden' });
});

test('a look-up answers as the interface does, and says what is wrong when there is nothing', {
  skip,
}, async () => {
  const { sport, id } = product.seen();
  const { matches } = (await (await fetch(`${product.url}/lookup?port=${sport}`)).json()) as {
    matches: { pod: string }[];
  };
  await page.getByLabel('Source port').fill(String(sport));
  await page.getByRole('button', { name: 'Find pod' }).click();
  await page.locator('#answer').getByText(matches[0]!.pod).first().waitFor();
  await page.getByLabel('Request id').fill(id);
  await page.getByRole('button', { name: 'Find line' }).click();
  await page.locator('#answer pre').first().getByText(id).waitFor();
  // The browser itself complains about answers of 404.
  const before = complaints.length;
  await page.getByLabel('Request id').fill('nobody');
  await page.getByRole('button', { name: 'Find line' }).click();
  await page.locator('#answer').getByText('no recent line has the request id nobody').waitFor();
  complaints.splice(before);
});

test('names, roles and states are there for a screen reader', { skip }, async () => {
  const nameless = await page.locator('button, input').evaluateAll((nodes) =>
    nodes
      .filter((node) => {
        const labels = (node as HTMLInputElement).labels?.length ?? 0;
        return !node.textContent?.trim() && !node.getAttribute('aria-label') && labels === 0;
      })
      .map((node) => node.outerHTML),
  );
  assert.deepEqual(nameless, []);
  for (const label of await page
    .locator('#services [role=img]')
    .evaluateAll((nodes) => nodes.map((node) => node.getAttribute('aria-label') ?? ''))) {
    assert.match(label, /last 15 minutes\. Latest: /);
  }
  assert.equal(await page.locator('th:not([scope])').count(), 0);
});

test('both themes are drawn, by the system and by hand', { skip }, async () => {
  const back = (on: Page) => on.evaluate(() => getComputedStyle(document.body).backgroundColor);
  mkdirSync(PICTURES, { recursive: true });
  await page.getByRole('button', { name: 'Clear' }).click();
  await page.locator(`${ROWS} button`).nth(2).click();
  const light = await back(page);
  await page.waitForTimeout(1_000);
  await page.screenshot({ path: join(PICTURES, 'light.png'), fullPage: true });
  const other = await openPage('dark');
  await other.locator('#services canvas').first().waitFor();
  await other.locator(`${ROWS} button`).nth(2).click();
  await other.waitForTimeout(1_000);
  const dark = await back(other);
  await other.screenshot({ path: join(PICTURES, 'dark.png'), fullPage: true });
  assert.notEqual(light, dark);
  await other.getByRole('button', { name: 'Switch between light and dark' }).click();
  assert.equal(await back(other), light);
  await other.close();
});

test('under a rush of lines the page goes on and says how many it left out', { skip }, async () => {
  const response = await fetch(`${product.url}/lines?limit=1000`);
  const { lines } = (await response.json()) as { lines: { line: string }[] };
  const text = lines.map(({ line }) => `${line}\n`).join('');
  appendFileSync(product.accessLog, text.repeat(5));
  await page.getByText(/not shown: too many at a time/).waitFor();
  assert.ok((await page.locator(ROWS).count()) <= 300);
});

test('nothing was asked of anyone else, no error was shown, and all of it is small', { skip }, async () => {
  assert.deepEqual(complaints, []);
  let bytes = 0;
  const files = readdirSync(new URL('../../dist/page/', import.meta.url)).map((file) => `page/${file}`);
  for (const file of ['', 'page/uplot.js', 'page/uplot.css', ...files]) {
    bytes += await new Promise<number>((resolve, reject) => {
      const headers = { 'accept-encoding': 'gzip' };
      get(`${product.url}/${file}`, { headers }, (response) => {
        assert.equal(response.statusCode, 200, file);
        let length = 0;
        response.on('data', (chunk: Buffer) => {
          length += chunk.length;
        });
        response.once('end', () => resolve(length));
      }).once('error', reject);
    });
  }
  assert.ok(bytes > 10_000, `${bytes} bytes`);
  assert.ok(bytes < 60_000, `${bytes} bytes`);
});
