// The study's figures.

import { type Chart, chartFile, type Series } from '../../../src/report/chart.js';
import type { AdvantageScale } from './configuration.js';
import { expectations, type Situation, trueAdvantages } from './exact.js';
import { labels, nameOf } from './methods.js';
import type { StudyResults } from './results.js';

export interface Figure {
  name: string;
  svg: string;
}

export function figuresOf(results: StudyResults): Figure[] {
  const charts: Record<string, Chart> = {
    right: answersChart(results, 'right'),
    wrong: answersChart(results, 'wrong'),
    gradient: gradientChart(results, 'none', 'The expected gradient of a prompt, against the true one'),
    'gradient-grpo': gradientChart(results, 'group-std', 'The same with (r − p̂) / std'),
    learning: learningChart(results, 'none', 'How a policy learns the hardest rung'),
    'learning-grpo': learningChart(results, 'group-std', 'The same with (r − p̂) / std'),
  };
  return Object.entries(charts).map(([name, chart]) => ({ name, svg: chartFile(chart) }));
}

/** Success probabilities for smooth curves. */
const grid = Array.from({ length: 99 }, (_, i) => (i + 1) / 100);

function curve(name: string, value: (p: number) => number, rest: Partial<Series> = {}): Series {
  return { name, points: grid.map((p) => ({ x: p, y: value(p) })), ...rest };
}

/** Lines for an anchor equal to the level, and the results of simulation. */
function answersChart(results: StudyResults, answer: 'right' | 'wrong'): Chart {
  const { learning, hadwScale } = results.configuration;
  const { groupSize, mixture } = learning;
  const anchor = results.levels[mixture];
  const mean = (p: number, rest: Partial<Situation>) => expectations({ p, groupSize, scale: 'none', ...rest })[answer];
  const simulated = results.simulations.find(
    (s) => s.mixture === mixture && s.groupSize === groupSize && s.scale === 'none' && s.anchor === learning.anchor,
  )!;
  return {
    title: `The mean advantage of ${answer} answers`,
    subtitle: `G = ${groupSize}, anchor ${anchor}; dots: simulated, with four standard errors`,
    xLabel: 'p',
    xRange: [0, 1],
    series: [
      curve('true advantage r − p', (p) => trueAdvantages(p, 'none')[answer], { dashed: true, color: 6 }),
      curve('r − p̂', (p) => mean(p, {}), { color: 0 }),
      curve('HA-DW, λ = 1', (p) => mean(p, { anchor }), { color: 2 }),
      curve(`HA-DW, λ = ${hadwScale}`, (p) => hadwScale * mean(p, { anchor }), { color: 1 }),
      {
        name: 'simulated',
        kind: 'points',
        color: 2,
        unlisted: true,
        points: simulated.rungs.map((rung) => {
          const { simulated: y, error } = rung[answer];
          return { x: rung.p, y, low: y - 4 * error, high: y + 4 * error };
        }),
      },
    ],
  };
}

function gradientChart(results: StudyResults, scale: AdvantageScale, title: string): Chart {
  const { learning, hadwScale } = results.configuration;
  const { groupSize } = learning;
  const gradient = (p: number, anchor?: number) => expectations({ p, groupSize, scale, anchor }).gradient;
  return {
    title,
    subtitle: `Over all groups, G = ${groupSize}; with true advantages it is 1`,
    xLabel: 'p',
    xRange: [0, 1],
    yIncludes: [0, 1],
    series: [
      curve('true advantages', () => 1, { dashed: true, color: 6 }),
      curve('without HA-DW', (p) => gradient(p), { color: 0 }),
      ...Object.values(results.levels).map((level, i) =>
        curve(`HA-DW ${hadwScale}, anchor ${level}`, (p) => hadwScale * gradient(p, level), { color: 1 + i }),
      ),
    ],
  };
}

function learningChart(results: StudyResults, scale: AdvantageScale, title: string): Chart {
  const { learning, hadwScale, rungs } = results.configuration;
  const place = { mixture: learning.mixture, groupSize: learning.groupSize, scale };
  const shown = [
    labels.plain,
    labels.times(hadwScale),
    labels.sizeAlone(hadwScale),
    labels.hadw(hadwScale, learning.anchor),
    labels.truth.all,
  ].map((label) => ({ label, method: results.learning.find(({ name }) => name === nameOf(place, label))! }));
  return {
    title,
    subtitle: `True success on prompts that start at ${rungs[0]}, after n samples of each; ${learning.seeds} seeds`,
    xLabel: 'n',
    xInteger: true,
    yIncludes: [0, 1],
    series: shown.map(({ label, method }) => ({
      name: label,
      points: method.rungCurves[0].map((y, i) => ({ x: (i * learning.samplesPerPrompt) / learning.points, y })),
    })),
  };
}
