"""What annotators read before they begin: GUIDE.md in the folder that is handed out."""

from __future__ import annotations

GUIDE_FILE = "GUIDE.md"
FINISHED = "finished"
ABSENT = "not in the picture"
PROPOSAL = "proposal"

GUIDE = f"""\
# Drawing masks

Each group has a folder. In it, every sample is three files with the same name:

| file | what it is |
| --- | --- |
| `NAME.jpg` or `NAME.png` | the picture; do not change it |
| `NAME.json` | your drawing; Labelme opens and saves it |
| `NAME.txt` | what to draw, and the dialogue that leads to it; correct it in any text editor |

## How

1. Start Labelme on your folder: `labelme YOUR_FOLDER`, or its menu: File, Open Dir.
2. Read `NAME.txt`. The line `# Draw:` says what the dialogue leads to; the dialogue says which one is meant.
3. Outline it with Create Polygons and give the outline the label from `# Draw:`, word for word. If an outline is
   there already, correct it; if it is right, leave it.
4. Tick the flag `{FINISHED}` (panel Flags) and save. Without the tick the sample counts as still open, so you
   can save half-done work at any time.
5. If the dialogue says something wrong (a colour, a number, a time, a word on a sign), correct it in `NAME.txt`.

## What counts

- Draw what can be seen of the thing, to its edge, within a pixel or two. What is hidden behind other things is not
  drawn. A thing cut in two by something before it is two outlines with the same label.
- Leave out what is not part of it: its shadow, its reflection, the hand that holds it.
- A hole one can look through is not part of it: run the outline in along a cut, around the hole and out again.
- Several things meant by one phrase are several outlines with the same label.
- Outlines called `{PROPOSAL} 1`, `{PROPOSAL} 2` and so on were made by a program. Rename those that fit to the label
  you need; the others are ignored. Those of one name are parts of one outline: rename all of them, or delete some.
- If the thing is not in the picture, or you cannot tell which one is meant after reading the dialogue, draw nothing
  and tick `{ABSENT}` as well as `{FINISHED}`.
- In the text keep the heads (`Q1:`, `A1:`) and every `{{target}}`. Do not add or remove turns.

Work alone: the other group draws the same samples, and the two drawings are compared. Where they differ too much, a
third person decides in the folder `adjudication`, where both drawings are shown with the names of their groups; that
person gives the right outline the label itself (rename one of the two, or draw a new one).

Do not rename or move files, and keep one file per sample. `status.jsonl` says after each run what is still open and
what could not be read. Save text as UTF-8 where your editor asks.
"""
