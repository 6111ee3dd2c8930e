// armdb from Node.js, through the npm package better-sqlite3.
//
//     npm install better-sqlite3
//     node sql/examples/example.js settings.db [./armdb_vtab]
//
// Keep prepared statements: preparing one costs more than a point lookup.
'use strict';
const Database = require('better-sqlite3');

function connect(path, extension) {
    const db = new Database(path);
    db.loadExtension(extension);
    return db;
}

function ask(db) {
    const point = db.prepare('SELECT name, value FROM settings WHERE name = ?');
    const row = point.get('app:port');
    console.log(`point: ${row.name} = ${row.value}`);
    console.log(`absent: ${point.all('app:none').length} rows`);

    const sum = (rows) => rows.reduce((total, r) => total + r.value, 0);
    const prefix = db.prepare('SELECT value FROM settings WHERE name GLOB ?').all('user:00*');
    console.log(`prefix: ${prefix.length} rows, sum ${sum(prefix)}`);

    const range = db.prepare('SELECT value FROM settings WHERE name BETWEEN ? AND ?')
        .all('user:010', 'user:019');
    console.log(`range: ${range.length} rows, sum ${sum(range)}`);

    const last = db.prepare('SELECT name FROM settings ORDER BY name DESC LIMIT 2').all();
    console.log(`last: ${last.map((r) => r.name).join(' ')}`);
}

const path = process.argv[2];
const extension = process.argv[3] || './armdb_vtab';

let db = connect(path, extension);
db.exec('CREATE VIRTUAL TABLE settings USING armdb(name TEXT PRIMARY KEY, value)');
const insert = db.prepare('INSERT INTO settings VALUES (?, ?)');
db.transaction(() => {
    insert.run('app:host', 'localhost');
    insert.run('app:port', 8080);
    for (let i = 1; i <= 100; i++)
        insert.run('user:' + String(i).padStart(3, '0'), i * i);
})();
console.log(`created: ${db.prepare('SELECT count(*) AS n FROM settings').get().n} rows`);
ask(db);
db.close();

console.log('reopened');
db = connect(path, extension);
ask(db);
db.close();
