// HTML on stdin; a line of JSON on stdout for each thing that some mail program does not know, or only partly.
import { readFileSync } from "node:fs";
import { caniemail } from "caniemail";

const clients = ["gmail.*", "outlook.*", "apple-mail.*", "yahoo.*"];
const { issues } = caniemail({ clients, html: readFileSync(0, "utf8") });
for (const kind of ["errors", "warnings"]) {
  for (const [client, found] of issues[kind]) {
    for (const { title, notes } of found) console.log(JSON.stringify({ kind, client, title, notes }));
  }
}
