// PRAGMA integrity_check reaches armdb tables where SQLite has xIntegrity (3.44 and later).
// node integrity.js FOLDER EXTENSION; prints what each check answers.
'use strict';
const fs = require('fs');
const path = require('path');
const Database = require('better-sqlite3');
const [folder, extension] = process.argv.slice(2);
const file = path.join(folder, 'integrity.db');

function open() {
    const db = new Database(file);
    db.loadExtension(extension);
    return db;
}

let db = open();
db.exec("CREATE VIRTUAL TABLE t USING armdb(k TEXT PRIMARY KEY, v TEXT, shards=1)");
db.exec("INSERT INTO t VALUES('a', 'the first value'), ('b', 'the second value')");
console.log(db.pragma('integrity_check', { simple: true }));
db.close();
for (const name of fs.readdirSync(file + '-armdb')) {
    const segment = path.join(file + '-armdb', name);
    const bytes = fs.readFileSync(segment);
    const at = bytes.indexOf('the second value');
    if (name.endsWith('.seg') && at >= 0) {
        bytes[at + 5] ^= 1;
        fs.writeFileSync(segment, bytes);
    }
}
db = open();
console.log(/^t: .*\.seg: offset \d+: the value of this row is damaged \(key 'b'\)/.test(
    db.pragma('integrity_check', { simple: true })));
console.log(db.pragma('quick_check', { simple: true }));
db.close();
