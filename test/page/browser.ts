import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BrowserContext, chromium } from 'playwright-core';

const CHROMIUM = process.env.REALPOD_CHROMIUM ?? '/usr/bin/chromium';

/** Why no browser can be started here; undefined if one can. */
export function browserObstacle(): string | undefined {
  return existsSync(CHROMIUM) ? undefined : `${CHROMIUM} is missing; set REALPOD_CHROMIUM`;
}

export interface Browser {
  context: BrowserContext;
  close(): Promise<void>;
}

/** Chromium without a window, in the network namespace `ns`, with a profile of its own, which goes with it. */
export async function startBrowser(ns: string): Promise<Browser> {
  const profile = mkdtempSync(join(tmpdir(), 'realpod-browser-'));
  const within = join(profile, 'chromium');
  writeFileSync(within, `#!/bin/sh\nexec ip netns exec ${ns} '${CHROMIUM}' "$@"\n`, { mode: 0o755 });
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: within,
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
  // tsx marks functions with a helper that what is sent to the browser lacks.
  await context.addInitScript({ content: 'globalThis.__name = (named) => named;' });
  return {
    context,
    async close() {
      await context.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}
