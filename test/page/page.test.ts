/**
 * The page in a real browser, beside the sidecar of the shop under load: real nginx, real conntrack. The browser runs in
 * nginx's pod, as one behind a port-forward does, from where nothing but the sidecar can be reached.
 */
import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Page } from 'playwright-core';
import { FORMATS } from '../lab/kit/formats.ts';
import { until } from '../lab/kit/nginx.ts';
import { BROWSER, labCanRun } from '../lab/kit/requirements.ts';
import { type LiveShop, openLiveShop, SHOP_PODS } from '../lab/kit/shop.ts';
import { type Browser, browserObstacle, startBrowser } from './browser.ts';
import { unreadableTexts } from './contrast.ts';

const LIMIT_MS = 20_000;
const RATE = 120;
/** Where the pictures go. */
const PICTURES = process.env.REALPOD_PICTURES ?? join(tmpdir(), 'realpod-pictures');
/** Seconds of traffic before the pictures are taken, for plots with something on them. */
const PICTURE_AFTER_S = Number(process.env.REALPOD_PICTURE_AFTER ?? 0);
/** The pods alone, as in the README. */
const TOP = { x: 0, y: 0, width: 1440, height: 800 };
const URL = 'http://127.0.0.1:9798';
const ROWS = '#line-table tbody tr';

interface Line {
  line: string;
  id: string;
  path: string;
  attempts: { ip: string; pod: string; evidence: string; sport: number }[];
}

describe('the page', {
  skip: !labCanRun(BROWSER, browserObstacle),
  concurrency: false,
  timeout: 600_000,
}, () => {
  let shop: LiveShop;
  let browser: Browser;
  let page: Page;
  let begun = 0;
  /** What went wrong in the browser, and what it asked of others than the sidecar. */
  const complaints: string[] = [];

  before(async () => {
    shop = await openLiveShop(FORMATS.full);
    shop.keepBusy(RATE);
    begun = Date.now();
    browser = await startBrowser(shop.pod.ns);
    await until('requests to be resolved', () => (shop.sidecar.counts().evidence['request-id'] ?? 0) > 300);
    page = await openPage('light');
  });
  after(async () => {
    await browser?.close();
    await shop?.scene.dispose();
  });

  async function openPage(colorScheme: 'light' | 'dark'): Promise<Page> {
    const opened = await browser.context.newPage();
    opened.setDefaultTimeout(LIMIT_MS);
    opened.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) complaints.push(message.text());
    });
    opened.on('pageerror', (error) => complaints.push(String(error)));
    opened.on('request', (request) => {
      if (!request.url().startsWith(`${URL}/`) && !request.url().startsWith('data:'))
        complaints.push(`asked ${request.url()}`);
    });
    await opened.emulateMedia({ colorScheme });
    await opened.goto(URL);
    await opened.locator(ROWS).first().waitFor();
    return opened;
  }

  /** Waits until the page makes `condition` true. */
  const shows = (condition: (argument: string) => boolean, argument = ''): Promise<unknown> =>
    page.waitForFunction(condition, argument, { timeout: LIMIT_MS });
  const firstRow = () => page.locator(ROWS).first().innerText();
  const moved = (from: string): Promise<unknown> =>
    shows((text) => document.querySelector<HTMLElement>('#line-table tbody tr')?.innerText !== text, from);
  /** The texts of each row's cells. */
  const cells = () =>
    page
      .locator(ROWS)
      .evaluateAll((rows) => rows.map((row) => [...row.children].map((cell) => cell.textContent ?? '')));
  /** The youngest line that the sidecar has. */
  const youngest = (): Line =>
    (JSON.parse(shop.sidecar.get('/lines?limit=1').text) as { lines: [Line] }).lines[0];
  const clear = () => page.getByRole('button', { name: 'Clear' }).click();

  test('the live list moves, stands still while paused, and goes on with what came meanwhile', async () => {
    await moved(await firstRow());
    await page.getByRole('button', { name: 'Pause' }).click();
    await page.getByText(/\d+ new/).waitFor();
    const held = await firstRow();
    await shows(() => Number(/^\d+/.exec(document.getElementById('lines-note')!.textContent!)?.[0]) > 100);
    assert.equal(await firstRow(), held);
    await page.getByRole('button', { name: 'Go on' }).click();
    await moved(held);
  });

  test('each line shows the pod that said it had answered', async () => {
    const { lines } = JSON.parse(shop.sidecar.get('/lines?limit=200').text) as { lines: Line[] };
    const podOf = (ip: string) => SHOP_PODS[shop.scene.pods.findIndex((pod) => pod.ip === ip)]!.name;
    for (const { line, attempts } of lines) {
      const said = /"([^"]*)" "\d*" "\d*"$/.exec(line)![1]!;
      assert.deepEqual([attempts[0]!.ip, attempts[0]!.pod], [said, podOf(said)], line);
    }
    assert.equal(lines.length, 200);
    // The page shows the same: its times are those of the reader's zone, so a line is known by its target.
    await page.getByLabel('Path').fill('/orders/');
    // All of them: the rows of before the filter stand there for a moment more.
    await shows(() => {
      const rows = [...document.querySelectorAll('#line-table tbody tr')];
      return rows.length > 20 && rows.every((row) => row.textContent!.includes('/orders/'));
    });
    await page.getByRole('button', { name: 'Pause' }).click();
    const shown = new Map((await cells()).map(([, , request, pod]) => [request!, pod!]));
    const written = readFileSync(shop.front.accessLog, 'latin1');
    let compared = 0;
    for (const [request, pod] of shown) {
      const lines = written.split('\n').filter((line) => line.includes(`"${request} HTTP/1.1"`));
      if (lines.length !== 1) continue;
      compared++;
      assert.equal(podOf(/"([^"]*)" "\d*" "\d*"$/.exec(lines[0]!)![1]!), pod, request);
    }
    assert.ok(compared > 10, `${compared} lines compared`);
    await page.getByRole('button', { name: 'Go on' }).click();
    await clear();
  });

  test('filters hold for old lines and new ones, survive a reload, and are cleared', async () => {
    await page.getByLabel('Status').fill('5xx');
    await page.getByLabel('Path').fill('catalog');
    const fits = () => {
      const rows = [...document.querySelectorAll('#line-table tbody tr')];
      return (
        rows.length > 3 &&
        rows.every(
          ({ children: [, status, request] }) =>
            status!.textContent!.startsWith('5') && request!.textContent!.includes('catalog'),
        )
      );
    };
    await shows(fits);
    const count = await page.locator(ROWS).count();
    await shows((n) => document.querySelectorAll('#line-table tbody tr').length > Number(n), String(count));
    assert.ok(await page.evaluate(fits));
    await page.reload();
    await page.locator(ROWS).first().waitFor();
    assert.equal(await page.getByLabel('Status').inputValue(), '5xx');
    await shows(fits);
    await clear();
    await shows(() =>
      [...document.querySelectorAll('#line-table tbody tr')].some(
        (row) => row.children[1]!.textContent === '200',
      ),
    );
  });

  test('the slow pod and the failing one are marked, their siblings are not, and a name leads to its lines', async () => {
    const expected = SHOP_PODS.map(({ name, failing, slowestMs }) => [
      name,
      failing > 0 ? 'failing' : slowestMs > 100 ? 'slow' : '',
    ]);
    // With few requests so far, chance can make any pod a doubtful one.
    await shows((text) => {
      const pods = JSON.parse(text) as [name: string, badge: string][];
      const rows = [...document.querySelectorAll('#services tbody tr')];
      const items = [...document.querySelectorAll('#outliers li')];
      return pods.every(([name, badge]) => {
        const row = rows.find(({ textContent }) => textContent.includes(name));
        const badges = [...(row?.querySelectorAll('.badge') ?? [])].map(({ textContent }) =>
          textContent.trim(),
        );
        const listed = items.filter(({ textContent }) => textContent.includes(name)).length;
        return row !== undefined && badges.join() === badge && listed === (badge === '' ? 0 : 1);
      });
    }, JSON.stringify(expected));
    // Beside the pods a card may have a row for attempts whose pod is not known, which has no pod to choose.
    const pods = page.locator('#services tbody tr').filter({ has: page.getByRole('button') });
    assert.equal(await pods.count(), SHOP_PODS.length);
    assert.equal(await page.locator('#services canvas').count(), 2 * 3);
    const { name } = SHOP_PODS.find(({ failing }) => failing > 0)!;
    await page.locator('#services').getByRole('button', { name }).click();
    await shows((pod) => {
      const rows = [...document.querySelectorAll('#line-table tbody tr')];
      return rows.length > 3 && rows.every((row) => row.children[3]!.textContent === pod);
    }, name);
    await clear();
  });

  test('the keyboard alone reaches the lines, pauses them, and shows how one was matched', async () => {
    await page.reload();
    await page.locator(ROWS).first().waitFor();
    const focused = () => page.evaluate(() => document.activeElement?.textContent?.trim() ?? '');
    await page.keyboard.press('Tab');
    assert.equal(await focused(), 'Skip to the lines');
    await page.keyboard.press('Enter');
    await page.keyboard.press('Tab');
    assert.equal(await focused(), 'Pause');
    await page.keyboard.press('Space');
    await page.getByRole('button', { name: 'Go on', pressed: true }).waitFor();
    for (let i = 0; i < 10 && !(await focused()).match(/^\d/); i++) await page.keyboard.press('Tab');
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement!).outlineStyle);
    assert.equal(outline, 'solid', 'where the focus is cannot be seen');
    await page.keyboard.press('Enter');
    const detail = page.locator('#detail');
    await detail.getByText('As nginx wrote it').waitFor();
    await detail.getByText('request-id').first().waitFor();
    assert.equal(await detail.locator('mark').count(), 1);
    assert.equal(await focused(), await detail.getByRole('heading').first().innerText());
    const said = /"([^"]*)" "(\d*)" "\d*"$/.exec(await detail.locator('pre').first().innerText())!;
    assert.equal(await detail.locator('mark').innerText(), `${said[1]}:${said[2]}`);
    await page.keyboard.press('Tab');
    assert.equal(await focused(), '×');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.locator('#answer').getByText('conntrack').first().waitFor();
    await detail.getByRole('button', { name: 'Close' }).focus();
    await page.keyboard.press('Escape');
    await detail.waitFor({ state: 'hidden' });
    assert.match(await focused(), /^\d/, 'the focus goes back to the line');
    await page.getByRole('button', { name: 'Go on' }).click();
  });

  test('a look-up answers by port and time and by request id, and says what is wrong when there is nothing', async () => {
    const { id, attempts, line } = youngest();
    const { sport, pod } = attempts[0]!;
    const seconds = / (\d{10}\.\d{3}) /.exec(line)![1]!;
    await page.getByLabel('Source port').fill(String(sport));
    await page.getByRole('textbox', { name: 'Time' }).fill(seconds);
    await page.getByRole('button', { name: 'Find pod' }).click();
    await page.locator('#answer').getByRole('rowheader', { name: pod }).first().waitFor();
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

  test('names, roles and states are there for a screen reader', async () => {
    const nameless = await page.locator('button, input, table, section, article').evaluateAll((nodes) =>
      nodes
        .filter((node) => {
          const labels = (node as HTMLInputElement).labels?.length ?? 0;
          const named = node.getAttribute('aria-label') ?? node.getAttribute('aria-labelledby');
          const caption = node.querySelector(':scope > caption')?.textContent;
          const text = node.tagName === 'BUTTON' && node.textContent?.trim();
          return !(labels || named || caption || text);
        })
        .map((node) => node.outerHTML.slice(0, 200)),
    );
    assert.deepEqual(nameless, []);
    for (const label of await page
      .locator('#services [role=img]')
      .evaluateAll((nodes) => nodes.map((node) => node.getAttribute('aria-label') ?? ''))) {
      assert.match(label, /last 15 minutes\. Latest: /);
    }
    assert.equal(await page.locator('th:not([scope])').count(), 0);
    const levels = await page.locator('h1, h2, h3, h4').evaluateAll((nodes) => nodes.map((n) => n.tagName));
    assert.equal(levels.filter((tag) => tag === 'H1').length, 1);
  });

  test('both themes are drawn, by the system and by hand, and every text can be read in each', async () => {
    const back = (on: Page) => on.evaluate(() => getComputedStyle(document.body).backgroundColor);
    mkdirSync(PICTURES, { recursive: true });
    const draw = async (on: Page, name: string): Promise<void> => {
      await on.getByRole('button', { name: 'Pause' }).click();
      await on.locator(`${ROWS} button`).nth(2).click();
      await on.locator('#services canvas').first().waitFor();
      await on.evaluate(() => scrollTo(0, 0));
      await on.screenshot({ path: join(PICTURES, `${name}.png`), fullPage: true });
      await on.screenshot({ path: join(PICTURES, `${name}-pods.png`), clip: TOP });
      assert.deepEqual(await on.evaluate(unreadableTexts), [], name);
    };
    const wait = begun + PICTURE_AFTER_S * 1000 - Date.now();
    if (wait > 0) await page.waitForTimeout(wait);
    await page.reload();
    await page.locator(ROWS).nth(20).waitFor();
    const light = await back(page);
    await draw(page, 'light');
    const other = await openPage('dark');
    const dark = await back(other);
    await draw(other, 'dark');
    assert.notEqual(light, dark);
    await other.getByRole('button', { name: 'Switch between light and dark' }).click();
    assert.equal(await back(other), light);
    await other.close();
    await page.getByRole('button', { name: 'Go on' }).click();
    console.log(`pictures of the page: ${PICTURES}`);
  });

  test('on a phone nothing is wider than the screen, and a request has the whole width', async () => {
    const whole = page.viewportSize()!;
    await page.setViewportSize({ width: 390, height: 844 });
    await page.locator(ROWS).nth(5).waitFor();
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= 390, `${wide} pixels`);
    const request = await page.locator(`${ROWS} .request`).first().boundingBox();
    assert.ok(request!.width > 300, `${request!.width} pixels`);
    const list = await page
      .locator('#lines .scroll, #lines')
      .first()
      .evaluate((node) => node.scrollWidth - node.clientWidth);
    assert.equal(list, 0);
    await page.evaluate(() => scrollTo(0, 0));
    await page.screenshot({ path: join(PICTURES, 'light-390.png'), fullPage: true });
    await page.setViewportSize(whole);
  });

  test('the header tells the lines per second', async () => {
    await shows(() => /[1-9]\d* lines\/s/.test(document.getElementById('status')!.textContent!));
  });

  test('under a rush of lines the page goes on and says how many it left out', async () => {
    const rush = readFileSync(shop.front.accessLog).subarray(0, 2 * 1024 * 1024);
    appendFileSync(shop.front.accessLog, rush.subarray(0, rush.lastIndexOf(10) + 1));
    await page.getByText(/not shown: too many at a time/).waitFor();
    assert.ok((await page.locator(ROWS).count()) <= 300);
  });

  test('nothing was asked of anyone else, and no error was shown', () => {
    assert.deepEqual(complaints, []);
  });
});
