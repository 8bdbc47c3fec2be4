// A generated data set that the story-writing model of ../shared can learn: the colour of a thing that was just named.

const names = ['Tim', 'Lily', 'Tom', 'Sue', 'Ben', 'Anna', 'Max', 'Mia'];
const things = ['ball', 'car', 'hat', 'box', 'cup', 'bag', 'boat', 'doll', 'kite', 'bed'];
const colours = ['red', 'blue', 'green', 'white', 'black', 'pink'];

/** 480 problems as JSON lines: a question, and an answer such as `red.`. */
export function colourProblems(): string {
  return names
    .flatMap((name) =>
      things.flatMap((thing) =>
        colours.map((colour) => ({
          question: `${name} had a ${colour} ${thing}. What color was the ${thing}? The ${thing} was`,
          answer: `${colour}.`,
        })),
      ),
    )
    .map((problem) => `${JSON.stringify(problem)}\n`)
    .join('');
}
