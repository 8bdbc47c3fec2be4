// The training programs, configurations and comparisons of README.md and docs/*.md learn: each runs as a reader would save it,
// in a project in which the package is installed, with fewer steps and no other change.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test, { after, before, describe } from 'node:test';
import { pathToFileURL } from 'node:url';
import { loadChanged } from '../../src/config/load.js';
import { installedProject, type Project, root } from '../support/installed.js';
import { assertLearns } from '../support/learning.js';
import { trainingSet } from '../support/sets.js';
import { type Snippet, snippets } from '../support/snippets.js';

/** How a snippet trains, if it does. */
function kindOf({ language, code }: Snippet): 'program' | 'configuration' | 'comparison' | 'loop' | undefined {
  if (!['ts', 'js'].includes(language)) return undefined;
  if (code.includes('export default defineConfig(')) return 'configuration';
  if (code.includes('export default defineComparison(')) return 'comparison';
  if (code.includes('GrpoTrainer.create(')) return 'program';
  return code.includes('.minimize(') ? 'loop' : undefined;
}

/** Whether a snippet needs a model's folder, which this test does not have. */
const needsModel = ({ code }: Snippet) => /PretrainedPolicy\.load\(|model: 'models\//.test(code);

const training = snippets().filter((snippet) => kindOf(snippet) !== undefined && !needsModel(snippet));
const nameOf = ({ file, line }: Snippet) => `${file}:${line}`;
const of = (kind: ReturnType<typeof kindOf>) => training.filter((snippet) => kindOf(snippet) === kind);

/** The installed backends, the fastest of which a snippet uses. */
const peers = ['tfjs-core', 'tfjs-node', 'tfjs-backend-wasm']
  .map((name) => `@tensorflow/${name}`)
  .filter((name) => existsSync(join(root, 'node_modules', name)));
const tsx = pathToFileURL(join(root, 'node_modules', 'tsx', 'dist', 'loader.mjs')).href;

test('snippets of every kind are found, and all tfjs loops are in README, whose test runs them', () => {
  assert.ok(of('program').some(({ file }) => file === 'README.md'));
  assert.ok(of('program').some(({ file }) => file === join('docs', 'trainer.md')));
  assert.ok(of('configuration').length > 0 && of('comparison').length > 0);
  assert.deepEqual(
    of('loop').filter(({ file }) => file !== 'README.md'),
    [],
  );
});

describe('learns, cut short:', {
  skip: trainingSet('takes minutes'),
}, () => {
  let project: Project;
  before(() => {
    project = installedProject(peers);
  });
  after(() => project.remove());

  function run(...args: string[]): string {
    const { status, output } = project.node(...args);
    assert.equal(status, 0, output);
    assert.doesNotMatch(output, /warning: |the warm start ended/);
    return output;
  }
  const groupgrad = (...args: string[]) => run(join('node_modules', 'groupgrad', 'dist', 'cli', 'main.js'), ...args);

  of('program').forEach((snippet, i) => {
    test(`the program at ${nameOf(snippet)}`, (t) => {
      const [, steps] = /\bmax: (\d+)/.exec(snippet.code) ?? [];
      assert.ok(Number(steps) > programSteps, `no max: with more than ${programSteps} steps to cut short`);
      const folder = `program-${i}`;
      const runDir = join(project.folder, folder);
      const code = snippet.code
        .replaceAll(`max: ${steps}`, `max: ${programSteps}`)
        .replace(/runDir: '[^']+'/, `runDir: ${JSON.stringify(runDir)}`);
      assert.ok(code.includes(runDir), 'no runDir');
      const file = project.write(join(folder, 'snippet.mts'), code);
      run('--import', tsx, file);
      const { before: first, after: last } = assertLearns(runDir);
      t.diagnostic(`accuracy ${first.toFixed(3)} to ${last.toFixed(3)} in ${programSteps} steps`);
    });
  });

  of('configuration').forEach((snippet, i) => {
    test(`the configuration at ${nameOf(snippet)}`, (t) => {
      const runDir = join(project.folder, `configuration-${i}`);
      const file = project.write(`snippet-${i}.config.ts`, snippet.code);
      groupgrad('train', file, '--run', runDir, '--steps', String(configurationSteps));
      const { before: first, after: last } = assertLearns(runDir);
      t.diagnostic(`accuracy ${first.toFixed(3)} to ${last.toFixed(3)} in ${configurationSteps} steps`);
    });
  });

  of('comparison').forEach((snippet, i) => {
    test(`the first variant of the comparison at ${nameOf(snippet)}`, async (t) => {
      const out = join(project.folder, `comparison-${i}`);
      const file = project.write(`snippet-${i}.comparison.ts`, snippet.code);
      groupgrad('compare', file, '--out', out, '--dry-run');
      const { variants } = await loadChanged(file, []);
      const [first, changes] = Object.entries(variants as Record<string, unknown>)[0];
      const set = [
        `variants=${JSON.stringify({ [first]: changes })}`,
        'pairs=[]',
        'seeds=1',
        `base.steps=${comparisonSteps}`,
        'probe.size=16',
        'probe.measure=8',
        `probe.every=${comparisonSteps}`,
      ];
      groupgrad('compare', file, '--out', out, '--jobs', '1', ...set.flatMap((change) => ['--set', change]));
      const { before: from, after: to } = assertLearns(join(out, 'runs', first, 'seed-0'));
      t.diagnostic(`accuracy ${from.toFixed(3)} to ${to.toFixed(3)} in ${comparisonSteps} steps`);
    });
  });
});

/** Steps of reinforcement after which accuracy has risen. */
const programSteps = 60;
const configurationSteps = 60;
const comparisonSteps = 60;
