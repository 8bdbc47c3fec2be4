// Verdicts of `verify.maths` per second, on answers of MATH-500: for themselves, boxed in a sentence, and for other problems' answers.
// The whole call is measured, including the worker threads that decide what texts and plain numbers do not.
//
// usage: tsx bench/verdicts.ts [file verdicts rounds]     default ../shared/data/math500/test.jsonl 5000 5

import { dataset } from '../src/tasks/dataset.js';
import { verify } from '../src/verify/index.js';

const [file = '../shared/data/math500/test.jsonl', count = '5000', rounds = '5'] = process.argv.slice(2);
const problems = dataset(file, { benchmark: 'math500' });
const answers = Array.from({ length: problems.size }, (_, i) => problems.example(i).answer);
const at = (i: number) => answers[i % answers.length];
const cases = {
  right: (i: number) => [at(i), at(i)],
  // Another problem's answer, a different one in each pass over the file.
  wrong: (i: number) => [at(i), at(i + 1 + Math.floor(i / answers.length))],
} as const;

const rates = {
  right: { wall: [] as number[], cpu: [] as number[] },
  wrong: { wall: [] as number[], cpu: [] as number[] },
};
for (let round = 0; round <= Number(rounds); round++) {
  for (const name of ['right', 'wrong'] as const) {
    const pair = cases[name];
    const [began, before] = [performance.now(), process.cpuUsage()];
    const verdicts = await Promise.all(
      Array.from({ length: Number(count) }, (_, i) => {
        const [gold, answer] = pair(i);
        return verify.maths(`So it is \\boxed{${answer}}.`, gold);
      }),
    );
    const seconds = (performance.now() - began) / 1e3;
    const { user, system } = process.cpuUsage(before);
    // Two problems may have the same answer.
    const accepted = verdicts.filter(({ correct }) => correct).length;
    if (name === 'right' && accepted < verdicts.length) throw new Error(`${verdicts.length - accepted} were refused`);
    // The first round starts the workers.
    if (round === 0) continue;
    rates[name].wall.push(verdicts.length / seconds);
    rates[name].cpu.push((verdicts.length / (user + system)) * 1e6);
  }
}
const median = (values: readonly number[]) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
for (const [name, { wall, cpu }] of Object.entries(rates)) {
  console.log(
    `${name} answers: ${median(wall).toFixed(0)} verdicts per second, ${median(cpu).toFixed(0)} per second of CPU time (medians of ${wall.length} rounds)`,
  );
}
