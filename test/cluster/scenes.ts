/**
 * `npm run test:cluster:scenes`: scenes of their own in the cluster that the kubeconfig names, with the example's helper on
 * every node: the article's nginx, unchanged but for the sidecar; tokens in the wrong hands; quotas, limits and restricted
 * namespaces; nginx flat out with the source `trace`, which needs the image of test/cluster/trace. Each line of the article is compared with what the pod said itself.
 *
 * REALPOD_CLUSTER_KUBECTL  how kubectl is called (`kubectl`)
 * REALPOD_CLUSTER_LOAD     a command that brings the images onto every node
 * REALPOD_CLUSTER_OUTSIDE  a command that runs another one outside the cluster, where nodes are reached (``)
 * REALPOD_CLUSTER_ONLY     a regular expression: only the scenes whose names it matches
 * REALPOD_CLUSTER_RESULTS  `write`: the tables go into docs/results/cluster.md
 */
import { fileURLToPath } from 'node:url';
import { kubectl, shell } from './kit/kubectl.ts';
import { writeResults } from './kit/results.ts';
import { ADMISSION, inAdmission } from './scenes/admission.ts';
import { ARTICLE, articleTable } from './scenes/article.ts';
import { TOKENS } from './scenes/tokens.ts';
import { TRACE, traceTable } from './scenes/trace.ts';

/** The last one has another helper on every node. */
const SCENES = [...ARTICLE, ...TOKENS, ...ADMISSION, ...TRACE];
const HELPER = fileURLToPath(new URL('../../k8s/helper', import.meta.url));

async function main(): Promise<number> {
  const only = new RegExp(process.env.REALPOD_CLUSTER_ONLY ?? '');
  const load = process.env.REALPOD_CLUSTER_LOAD;
  if (load !== undefined) await shell(load);
  await kubectl('apply', '-k', HELPER);
  await kubectl('-n', 'realpod', 'rollout', 'status', 'ds/realpod-helper', '--timeout=120s');
  let failed = 0;
  for (const { name, run } of SCENES.filter((each) => only.test(each.name))) {
    const from = performance.now();
    try {
      await run();
      console.log(`ok ${name} (${((performance.now() - from) / 1000).toFixed(0)} s)`);
    } catch (error) {
      failed++;
      console.log(`not ok ${name}: ${(error as Error).message}`);
    }
  }
  for (const [part, table] of [
    ['article', articleTable()],
    ['trace', traceTable()],
  ] as const) {
    if (table === '') continue;
    console.log(table);
    writeResults(part, table);
  }
  await kubectl(
    'delete',
    'namespace',
    'realpod-article',
    ...inAdmission,
    '--ignore-not-found',
    '--wait=false',
  );
  return failed === 0 ? 0 : 1;
}

process.exitCode = await main();
