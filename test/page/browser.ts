import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BrowserContext, chromium } from 'playwright-core';

const CHROMIUM = process.env.REALPOD_CHROMIUM ?? '/usr/bin/chromium';

/** Why no browser can be started here; undefined if one can. */
export function browserObstacle(): string | undefined {
  return existsSync(CHROMIUM) ? undefined : `${CHROMIUM} is missing; run test/page/install.sh as root`;
}

export interface Browser {
  context: BrowserContext;
  close(): Promise<void>;
}

/** Chromium without a window and with a profile of its own, which goes with it. */
export async function startBrowser(): Promise<Browser> {
  const profile = mkdtempSync(join(tmpdir(), 'realpod-browser-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: CHROMIUM,
    headless: true,
    viewport: { width: 1440, height: 1000 },
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
  return {
    context,
    async close() {
      await context.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}
