-- A ledger of schema 3 as `sqlite3 var/overnight.db .dump` wrote it after `run daily_email --limit 3`, of which one was a mail, and a run of hello.
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE meta (
	name VARCHAR(64) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO meta VALUES('schema','3');
CREATE TABLE entry (
	job VARCHAR(128) NOT NULL, 
	hash VARCHAR(64) NOT NULL, 
	timing TEXT, 
	effective_since VARCHAR(24) NOT NULL, 
	enabled BOOLEAN NOT NULL, 
	paused_at VARCHAR(24), 
	pause_reason TEXT, 
	PRIMARY KEY (job)
);
CREATE TABLE occurrence (
	job VARCHAR(128) NOT NULL, 
	scheduled_for VARCHAR(24) NOT NULL, 
	id VARCHAR(40) NOT NULL, 
	slot VARCHAR(64) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	reason TEXT, 
	run_id VARCHAR(40), 
	noted_at VARCHAR(24) NOT NULL, 
	PRIMARY KEY (job, scheduled_for), 
	UNIQUE (id)
);
CREATE TABLE slot (
	job VARCHAR(128) NOT NULL, 
	slot VARCHAR(64) NOT NULL, 
	day VARCHAR(10) NOT NULL, 
	scheduled_for VARCHAR(24) NOT NULL, 
	planned_at VARCHAR(24), 
	rehearsal BOOLEAN DEFAULT false NOT NULL, 
	created_at VARCHAR(24) NOT NULL, 
	pending BIGINT DEFAULT '0' NOT NULL, 
	ok BIGINT DEFAULT '0' NOT NULL, 
	failed BIGINT DEFAULT '0' NOT NULL, 
	retry BIGINT DEFAULT '0' NOT NULL, 
	skipped BIGINT DEFAULT '0' NOT NULL, 
	unknown BIGINT DEFAULT '0' NOT NULL, 
	cost_nano BIGINT DEFAULT '0' NOT NULL, 
	retired_at VARCHAR(24), 
	PRIMARY KEY (job, slot)
);
INSERT INTO slot VALUES('daily_email','2026-11-30','2026-11-30','2026-11-30T06:00:00.000Z','2026-11-30T20:19:10.619Z',0,'2026-11-30T20:19:10.587Z',21,1,0,0,2,0,0,NULL);
INSERT INTO slot VALUES('hello','2026-11-30','2026-11-30','2026-11-30T00:00:00.000Z','2026-11-30T20:19:12.550Z',0,'2026-11-30T20:19:12.528Z',0,3,0,0,0,0,0,NULL);
CREATE TABLE run (
	id VARCHAR(40) NOT NULL, 
	job VARCHAR(128) NOT NULL, 
	slot VARCHAR(64) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	retry_of VARCHAR(40), 
	status VARCHAR(16) NOT NULL, 
	reason TEXT, 
	scheduled_for VARCHAR(24) NOT NULL, 
	started_at VARCHAR(24) NOT NULL, 
	ended_at VARCHAR(24), 
	noted_at VARCHAR(24), 
	day VARCHAR(10) NOT NULL, 
	worker_id VARCHAR(128) NOT NULL, 
	code_version VARCHAR(64) NOT NULL, 
	config_hash VARCHAR(64) NOT NULL, 
	partial BOOLEAN DEFAULT false NOT NULL, 
	items BIGINT DEFAULT '0' NOT NULL, 
	ok BIGINT DEFAULT '0' NOT NULL, 
	failed BIGINT DEFAULT '0' NOT NULL, 
	retry BIGINT DEFAULT '0' NOT NULL, 
	skipped BIGINT DEFAULT '0' NOT NULL, 
	unknown BIGINT DEFAULT '0' NOT NULL, 
	attempts BIGINT DEFAULT '0' NOT NULL, 
	backlog BIGINT DEFAULT '0' NOT NULL, 
	cost_nano BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO run VALUES('r_202611302019105ecc0afc','daily_email','2026-11-30','manual',NULL,'ok',NULL,'2026-11-30T06:00:00.000Z','2026-11-30T20:19:10.587Z','2026-11-30T20:19:10.726Z',NULL,'2026-11-30','vm:11158','0.1.0+49d8009e.4ec9ef09','c62284d09af263ee',1,3,1,0,0,2,0,3,21,0);
INSERT INTO run VALUES('r_2026113020191274f29193','hello','2026-11-30','manual',NULL,'ok',NULL,'2026-11-30T00:00:00.000Z','2026-11-30T20:19:12.528Z','2026-11-30T20:19:12.565Z',NULL,'2026-11-30','vm:11183','0.1.0+d1ff450b.4ec9ef09','c62284d09af263ee',0,3,3,0,0,0,0,3,0,0);
CREATE TABLE lease (
	job VARCHAR(128) NOT NULL, 
	slot VARCHAR(64) NOT NULL, 
	run_id VARCHAR(40) NOT NULL, 
	host VARCHAR(255) NOT NULL, 
	pid BIGINT NOT NULL, 
	fence BIGINT NOT NULL, 
	until VARCHAR(24), 
	PRIMARY KEY (job, slot)
);
INSERT INTO lease VALUES('daily_email','2026-11-30','r_202611302019105ecc0afc','vm',11158,1,NULL);
INSERT INTO lease VALUES('hello','2026-11-30','r_2026113020191274f29193','vm',11183,1,NULL);
CREATE TABLE item (
	job VARCHAR(128) NOT NULL, 
	slot VARCHAR(64) NOT NULL, 
	"key" VARCHAR(255) NOT NULL, 
	seq BIGINT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	payload TEXT NOT NULL, 
	result TEXT, 
	reason TEXT, 
	error_class VARCHAR(16), 
	error_code VARCHAR(64), 
	error TEXT, 
	attempts BIGINT DEFAULT '0' NOT NULL, 
	next_at VARCHAR(24), 
	expires_at VARCHAR(24), 
	run_id VARCHAR(40), 
	ended_at VARCHAR(24), 
	duration_ms BIGINT DEFAULT '0' NOT NULL, 
	cost_nano BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (job, slot, "key")
)
 WITHOUT ROWID

;
INSERT INTO item VALUES('daily_email','2026-11-30','s_7svjtlfmv2gh4von',0,'skipped','{"id":"s_7svjtlfmv2gh4von","email":"uma@example.net","name":"Uma Patel","topics":["culture","science"]}',NULL,'no news',NULL,NULL,NULL,1,NULL,NULL,'r_202611302019105ecc0afc','2026-11-30T20:19:10.686Z',62,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_bamo2pvxq6zhff6w',1,'ok','{"id":"s_bamo2pvxq6zhff6w","email":"tomas@example.org","name":"Tomás Byrne","topics":["city"]}','"<a2424107374a23787b3aa0d8d1b76def@example.org>"',NULL,NULL,NULL,NULL,1,NULL,NULL,'r_202611302019105ecc0afc','2026-11-30T20:19:10.724Z',99,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_fu5b6vdz7tejinhp',2,'skipped','{"id":"s_fu5b6vdz7tejinhp","email":"olu@example.com","name":"Olu Adeyemi","topics":["science"]}',NULL,'no news',NULL,NULL,NULL,1,NULL,NULL,'r_202611302019105ecc0afc','2026-11-30T20:19:10.686Z',60,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_gjvyyatah5lktrpf',3,'pending','{"id":"s_gjvyyatah5lktrpf","email":"yuki@example.net","name":"田中 雪","topics":["science","culture"]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_gteyopwozbwxey6m',4,'pending','{"id":"s_gteyopwozbwxey6m","email":"ines@example.com","name":"Inês Carvalho","topics":["culture"]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_hw73kyqwlrhj55qm',5,'pending','{"id":"s_hw73kyqwlrhj55qm","email":"jonas@example.org","name":"Jonas Weir","topics":["city"]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_i6doitlitxw63lef',6,'pending','{"id":"s_i6doitlitxw63lef","email":"rosa@example.net","name":"Rosa Jiménez","topics":["city","science","culture"]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_jg5wlyqkkw5r6h52',7,'pending','{"id":"s_jg5wlyqkkw5r6h52","email":"chiara@example.com","name":"Chiara Moretti","topics":["culture"]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_jzy5a4ruo6t75g7y',8,'pending','{"id":"s_jzy5a4ruo6t75g7y","email":"sami@example.com","name":"Sami Lahtinen","topics":["science"]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_mzpg3axgphkjlg7m',9,'pending','{"id":"s_mzpg3axgphkjlg7m","email":"petra@example.org","name":"Petra Hofer","topics":["culture"]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_ovlrjfqikii5ujic',10,'pending','{"id":"s_ovlrjfqikii5ujic","email":"bela@example.net","name":"Béla Kovács","topics":["city"]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_p73ok7lem2x36whv',11,'pending','{"id":"s_p73ok7lem2x36whv","email":"elif@example.net","name":"Elif Yılmaz","topics":["city","culture"]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_pvgnusuvpa6hyilx',12,'pending','{"id":"s_pvgnusuvpa6hyilx","email":"mara@example.org","name":"Mara Lindqvist","topics":["city","culture"]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_rwfyh4nh67o7uy6j',13,'pending','{"id":"s_rwfyh4nh67o7uy6j","email":"femke@example.com","name":"Femke de Vries","topics":["city","science","culture"]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_sathesks7dscbgbx',14,'pending','{"id":"s_sathesks7dscbgbx","email":"bounce@example.net","name":"Moved Without Address","topics":["city"]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_sbtbd72seqmlnpz5',15,'pending','{"id":"s_sbtbd72seqmlnpz5","email":"dmitri@example.org","name":"Dmitri Sokolov","topics":["science"]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_u5nvnfthamxl75t7',16,'pending','{"id":"s_u5nvnfthamxl75t7","email":"nils@example.net","name":"Nils O''Hara","topics":[]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_uizzmjhzqg2oxnyf',17,'pending','{"id":"s_uizzmjhzqg2oxnyf","email":"kofi@example.net","name":"Kofi Mensah","topics":["science"]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_w4xgsiwb3jfdigmu',18,'pending','{"id":"s_w4xgsiwb3jfdigmu","email":"lena@example.com","name":"Lena Schmidt, Dr.","topics":["city","science"]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_wu6zugvon5zdaaux',19,'pending','{"id":"s_wu6zugvon5zdaaux","email":"ada@example.org","name":"Ada Brandt","topics":["city","science"]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_y2awl2od4f3xxehe',20,'pending','{"id":"s_y2awl2od4f3xxehe","email":"wanda@example.org","name":"Wanda Zielińska","topics":["culture"]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_yaqitvysjhetx2hh',21,'pending','{"id":"s_yaqitvysjhetx2hh","email":"viktor@example.com","name":"Виктор Левин","topics":["city"]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_z6r5lmyxig6vu2fz',22,'pending','{"id":"s_z6r5lmyxig6vu2fz","email":"gustav@example.org","name":"Gustav Holm","topics":[]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('daily_email','2026-11-30','s_ze2mrlwanvd4syj5',23,'pending','{"id":"s_ze2mrlwanvd4syj5","email":"hana@example.net","name":"Hana Novák","topics":["science","culture"]}',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,0,0);
INSERT INTO item VALUES('hello','2026-11-30','Ada',0,'ok','{"name":"Ada"}','"Good morning Ada, today is 2026-11-30."',NULL,NULL,NULL,NULL,1,NULL,NULL,'r_2026113020191274f29193','2026-11-30T20:19:12.555Z',0,0);
INSERT INTO item VALUES('hello','2026-11-30','Edsger',2,'ok','{"name":"Edsger"}','"Good morning Edsger, today is 2026-11-30."',NULL,NULL,NULL,NULL,1,NULL,NULL,'r_2026113020191274f29193','2026-11-30T20:19:12.557Z',2,0);
INSERT INTO item VALUES('hello','2026-11-30','Grace',1,'ok','{"name":"Grace"}','"Good morning Grace, today is 2026-11-30."',NULL,NULL,NULL,NULL,1,NULL,NULL,'r_2026113020191274f29193','2026-11-30T20:19:12.556Z',0,0);
CREATE TABLE histogram (
	run_id VARCHAR(40) NOT NULL, 
	bucket INTEGER NOT NULL, 
	n BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (run_id, bucket)
)
 WITHOUT ROWID

;
INSERT INTO histogram VALUES('r_202611302019105ecc0afc',233,1);
INSERT INTO histogram VALUES('r_2026113020191274f29193',0,2);
INSERT INTO histogram VALUES('r_2026113020191274f29193',36,1);
CREATE TABLE once (
	job VARCHAR(128) NOT NULL, 
	slot VARCHAR(64) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	value TEXT NOT NULL, 
	run_id VARCHAR(40) NOT NULL, 
	at VARCHAR(24) NOT NULL, 
	PRIMARY KEY (job, slot, name)
);
INSERT INTO once VALUES('daily_email','2026-11-30','edition','{"subject":"Where to leave old batteries & lamps","intro":"1 new story since the last edition.","stories":[{"id":"https://site.example.org/city/batteries","title":"Where to leave old batteries & lamps","url":"https://site.example.org/city/batteries","why":"The yellow boxes are back in all four supermarkets.","topic":"city","feed":"The Site: City","published":""}],"source":"fallback"}','r_202611302019105ecc0afc','2026-11-30T20:19:10.684Z');
CREATE TABLE seen (
	job VARCHAR(128) NOT NULL, 
	source VARCHAR(512) NOT NULL, 
	"key" VARCHAR(512) NOT NULL, 
	slot VARCHAR(64) NOT NULL, 
	PRIMARY KEY (job, source, "key")
)
 WITHOUT ROWID

;
INSERT INTO seen VALUES('daily_email','stories','feed:content/culture.xml','2026-11-30');
INSERT INTO seen VALUES('daily_email','stories','feed:content/feed.xml','2026-11-30');
INSERT INTO seen VALUES('daily_email','stories','feed:content/science.xml','2026-11-30');
INSERT INTO seen VALUES('daily_email','stories','https://site.example.org/city/batteries','2026-11-30');
INSERT INTO seen VALUES('daily_email','stories','https://site.example.org/city/harbour-bridge','2026-11-30');
INSERT INTO seen VALUES('daily_email','stories','https://site.example.org/city/letters/a-word-to-the-machines','2026-11-30');
INSERT INTO seen VALUES('daily_email','stories','https://site.example.org/city/library-sundays','2026-11-30');
INSERT INTO seen VALUES('daily_email','stories','https://site.example.org/city/market-moves','2026-11-30');
INSERT INTO seen VALUES('daily_email','stories','https://site.example.org/city/night-buses','2026-11-30');
INSERT INTO seen VALUES('daily_email','stories','https://site.example.org/city/tram-works','2026-11-30');
INSERT INTO seen VALUES('daily_email','stories','tag:site.example.org,2026:allotment-cookbook','2026-11-30');
INSERT INTO seen VALUES('daily_email','stories','tag:site.example.org,2026:choir','2026-11-30');
INSERT INTO seen VALUES('daily_email','stories','tag:site.example.org,2026:cinema-reopens','2026-11-30');
INSERT INTO seen VALUES('daily_email','stories','tag:site.example.org,2026:clock-tower-bats','2026-11-30');
INSERT INTO seen VALUES('daily_email','stories','tag:site.example.org,2026:home-batteries','2026-11-30');
INSERT INTO seen VALUES('daily_email','stories','tag:site.example.org,2026:library-sundays','2026-11-30');
INSERT INTO seen VALUES('daily_email','stories','tag:site.example.org,2026:paintings-on-loan','2026-11-30');
INSERT INTO seen VALUES('daily_email','stories','tag:site.example.org,2026:reading-graphs','2026-11-30');
INSERT INTO seen VALUES('daily_email','stories','tag:site.example.org,2026:river-water','2026-11-30');
INSERT INTO seen VALUES('daily_email','stories','tag:site.example.org,2026:school-comet','2026-11-30');
INSERT INTO seen VALUES('daily_email','stories','tag:site.example.org,2026:tram-poems','2026-11-30');
CREATE TABLE call (
	id VARCHAR(40) NOT NULL, 
	job VARCHAR(128) NOT NULL, 
	slot VARCHAR(64) NOT NULL, 
	"key" VARCHAR(255) NOT NULL, 
	hash VARCHAR(64) NOT NULL, 
	nth INTEGER NOT NULL, 
	run_id VARCHAR(40) NOT NULL, 
	role VARCHAR(64) NOT NULL, 
	model VARCHAR(128) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	error_class VARCHAR(16), 
	error_code VARCHAR(64), 
	request_id VARCHAR(128), 
	input_tokens BIGINT DEFAULT '0' NOT NULL, 
	output_tokens BIGINT DEFAULT '0' NOT NULL, 
	cache_read_tokens BIGINT DEFAULT '0' NOT NULL, 
	cache_write_tokens BIGINT DEFAULT '0' NOT NULL, 
	cache_write_1h_tokens BIGINT DEFAULT '0' NOT NULL, 
	cost_nano BIGINT DEFAULT '0' NOT NULL, 
	naive_nano BIGINT, 
	budget_day VARCHAR(10) NOT NULL, 
	started_at VARCHAR(24) NOT NULL, 
	duration_ms BIGINT DEFAULT '0' NOT NULL, 
	response TEXT, 
	stop_reason VARCHAR(32), 
	PRIMARY KEY (id)
);
CREATE TABLE tool_call (
	id VARCHAR(64) NOT NULL, 
	job VARCHAR(128) NOT NULL, 
	slot VARCHAR(64) NOT NULL, 
	"key" VARCHAR(255) NOT NULL, 
	run_id VARCHAR(40) NOT NULL, 
	role VARCHAR(64) NOT NULL, 
	tool VARCHAR(128) NOT NULL, 
	arguments TEXT, 
	verdict VARCHAR(16) NOT NULL, 
	error_code VARCHAR(64), 
	result TEXT, 
	at VARCHAR(24) NOT NULL, 
	duration_ms BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE effect (
	id VARCHAR(64) NOT NULL, 
	job VARCHAR(128) NOT NULL, 
	slot VARCHAR(64) NOT NULL, 
	"key" VARCHAR(255) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	target VARCHAR(255) NOT NULL, 
	ref VARCHAR(255) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	detail TEXT, 
	run_id VARCHAR(40) NOT NULL, 
	intent_at VARCHAR(24) NOT NULL, 
	done_at VARCHAR(24), 
	PRIMARY KEY (id)
);
INSERT INTO effect VALUES('7cec59c96953fd7deed5fe4c59cd33c9b82d7c291817e06e982f7b82084b1adf','daily_email','2026-11-30','s_bamo2pvxq6zhff6w','mail','daily_email','s_bamo2pvxq6zhff6w','<a2424107374a23787b3aa0d8d1b76def@example.org>','done',NULL,'r_202611302019105ecc0afc','2026-11-30T20:19:10.718Z','2026-11-30T20:19:10.723Z');
INSERT INTO effect VALUES('7eac3ede35641303491536b07011763c6734af7e76fa88c2a27b5f13fe98b207','alert','2026-11-30T20:19:10.747000Z','d_5d212056cb838ca6','mail','alert','a_c1479bc178ca2925f0b186d929992d48','<8561536dac04ae47e2fd491e88b29c33@example.org>','done',NULL,'','2026-11-30T20:19:10.829Z','2026-11-30T20:19:10.832Z');
CREATE TABLE subscriber (
	id VARCHAR(40) NOT NULL, 
	email VARCHAR(320) NOT NULL, 
	normalized VARCHAR(320) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	topics TEXT NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	reason TEXT, 
	created_at VARCHAR(24) NOT NULL, 
	changed_at VARCHAR(24) NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (normalized)
);
INSERT INTO subscriber VALUES('s_wu6zugvon5zdaaux','ada@example.org','ada@example.org','Ada Brandt','["city", "science"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_ovlrjfqikii5ujic','bela@example.net','bela@example.net','Béla Kovács','["city"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_jg5wlyqkkw5r6h52','chiara@example.com','chiara@example.com','Chiara Moretti','["culture"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_sbtbd72seqmlnpz5','dmitri@example.org','dmitri@example.org','Dmitri Sokolov','["science"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_p73ok7lem2x36whv','elif@example.net','elif@example.net','Elif Yılmaz','["city", "culture"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_rwfyh4nh67o7uy6j','femke@example.com','femke@example.com','Femke de Vries','["city", "science", "culture"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_z6r5lmyxig6vu2fz','gustav@example.org','gustav@example.org','Gustav Holm','[]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_ze2mrlwanvd4syj5','hana@example.net','hana@example.net','Hana Novák','["science", "culture"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_gteyopwozbwxey6m','ines@example.com','ines@example.com','Inês Carvalho','["culture"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_hw73kyqwlrhj55qm','jonas@example.org','jonas@example.org','Jonas Weir','["city"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_uizzmjhzqg2oxnyf','kofi@example.net','kofi@example.net','Kofi Mensah','["science"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_w4xgsiwb3jfdigmu','lena@example.com','lena@example.com','Lena Schmidt, Dr.','["city", "science"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_sathesks7dscbgbx','bounce@example.net','bounce@example.net','Moved Without Address','["city"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_pvgnusuvpa6hyilx','mara@example.org','mara@example.org','Mara Lindqvist','["city", "culture"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_u5nvnfthamxl75t7','nils@example.net','nils@example.net','Nils O''Hara','[]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_fu5b6vdz7tejinhp','olu@example.com','olu@example.com','Olu Adeyemi','["science"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_mzpg3axgphkjlg7m','petra@example.org','petra@example.org','Petra Hofer','["culture"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_i6doitlitxw63lef','rosa@example.net','rosa@example.net','Rosa Jiménez','["city", "science", "culture"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_jzy5a4ruo6t75g7y','sami@example.com','sami@example.com','Sami Lahtinen','["science"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_bamo2pvxq6zhff6w','tomas@example.org','tomas@example.org','Tomás Byrne','["city"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_7svjtlfmv2gh4von','uma@example.net','uma@example.net','Uma Patel','["culture", "science"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_yaqitvysjhetx2hh','viktor@example.com','viktor@example.com','Виктор Левин','["city"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_y2awl2od4f3xxehe','wanda@example.org','wanda@example.org','Wanda Zielińska','["culture"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
INSERT INTO subscriber VALUES('s_gjvyyatah5lktrpf','yuki@example.net','yuki@example.net','田中 雪','["science", "culture"]','active',NULL,'2026-11-30T20:19:09.477Z','2026-11-30T20:19:09.477Z');
CREATE TABLE signup (
	id VARCHAR(40) NOT NULL, 
	email VARCHAR(320) NOT NULL, 
	normalized VARCHAR(320) NOT NULL, 
	asked_at VARCHAR(24) NOT NULL, 
	mailed_at VARCHAR(24), 
	mails BIGINT DEFAULT '0' NOT NULL, 
	confirmed_at VARCHAR(24), 
	put_off BIGINT DEFAULT '0' NOT NULL, 
	next_at VARCHAR(24), 
	PRIMARY KEY (id), 
	UNIQUE (normalized)
);
CREATE TABLE outsider (
	id VARCHAR(255) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	reason TEXT, 
	at VARCHAR(24) NOT NULL, 
	PRIMARY KEY (id)
)
 WITHOUT ROWID

;
CREATE TABLE delivery (
	subscriber VARCHAR(255) NOT NULL, 
	ref VARCHAR(255) NOT NULL, 
	verdict VARCHAR(16) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	at VARCHAR(24) NOT NULL, 
	PRIMARY KEY (subscriber, ref)
)
 WITHOUT ROWID

;
CREATE TABLE incoming (
	digest VARCHAR(64) NOT NULL, 
	verdict VARCHAR(16) NOT NULL, 
	at VARCHAR(24) NOT NULL, 
	PRIMARY KEY (digest)
)
 WITHOUT ROWID

;
CREATE TABLE task (
	id VARCHAR(40) NOT NULL, 
	role VARCHAR(64) NOT NULL, 
	title TEXT NOT NULL, 
	body TEXT NOT NULL, 
	priority INTEGER DEFAULT '0' NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	source VARCHAR(255) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	created_at VARCHAR(24) NOT NULL, 
	done_at VARCHAR(24), 
	documents TEXT, 
	ref VARCHAR(255), 
	attempts BIGINT DEFAULT '0' NOT NULL, 
	result TEXT, 
	error TEXT, 
	PRIMARY KEY (id), 
	UNIQUE (digest)
);
CREATE TABLE spend (
	run_id VARCHAR(40) NOT NULL, 
	budget_day VARCHAR(10) NOT NULL, 
	role VARCHAR(64) NOT NULL, 
	model VARCHAR(128) NOT NULL, 
	job VARCHAR(128) NOT NULL, 
	slot VARCHAR(64) NOT NULL, 
	calls BIGINT DEFAULT '0' NOT NULL, 
	input_tokens BIGINT DEFAULT '0' NOT NULL, 
	output_tokens BIGINT DEFAULT '0' NOT NULL, 
	cache_read_tokens BIGINT DEFAULT '0' NOT NULL, 
	cache_write_tokens BIGINT DEFAULT '0' NOT NULL, 
	cache_write_1h_tokens BIGINT DEFAULT '0' NOT NULL, 
	cost_nano BIGINT DEFAULT '0' NOT NULL, 
	naive_nano BIGINT DEFAULT '0' NOT NULL, 
	wasted_nano BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (run_id, budget_day, role, model)
)
 WITHOUT ROWID

;
CREATE TABLE trouble (
	job VARCHAR(128) NOT NULL, 
	slot VARCHAR(64) NOT NULL, 
	error_class VARCHAR(16) NOT NULL, 
	error_code VARCHAR(64) NOT NULL, 
	n BIGINT DEFAULT '0' NOT NULL, 
	first_at VARCHAR(24), 
	last_at VARCHAR(24), 
	sample_key VARCHAR(255), 
	sample TEXT, 
	PRIMARY KEY (job, slot, error_class, error_code)
)
 WITHOUT ROWID

;
CREATE TABLE budget (
	scope VARCHAR(255) NOT NULL, 
	cap_nano BIGINT NOT NULL, 
	extra_nano BIGINT DEFAULT '0' NOT NULL, 
	settled_nano BIGINT DEFAULT '0' NOT NULL, 
	reserved_nano BIGINT DEFAULT '0' NOT NULL, 
	warned_at VARCHAR(24), 
	PRIMARY KEY (scope)
);
CREATE TABLE alert (
	"key" VARCHAR(255) NOT NULL, 
	rule VARCHAR(64) NOT NULL, 
	scope VARCHAR(255) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	message TEXT NOT NULL, 
	times BIGINT DEFAULT '0' NOT NULL, 
	first_at VARCHAR(24) NOT NULL, 
	last_at VARCHAR(24) NOT NULL, 
	notified_at VARCHAR(24), 
	untold VARCHAR(16), 
	silenced_until VARCHAR(24), 
	PRIMARY KEY ("key")
);
INSERT INTO alert VALUES('model:daily_email','model','daily_email','firing','daily_email 2026-11-30 (r_202611302019105ecc0afc): a fallback stood in for the model: role editor: the fallback stands in: there is no API key for the model: set ANTHROPIC_API_KEY in .env, or try `overnight demo`',1,'2026-11-30T20:19:10.741Z','2026-11-30T20:19:10.741Z','2026-11-30T20:19:10.741Z',NULL,NULL);
CREATE TABLE notice (
	id VARCHAR(40) NOT NULL, 
	channel VARCHAR(255) NOT NULL, 
	changes TEXT NOT NULL, 
	created_at VARCHAR(24) NOT NULL, 
	tries BIGINT DEFAULT '0' NOT NULL, 
	next_at VARCHAR(24) NOT NULL, 
	error TEXT, 
	PRIMARY KEY (id)
);
CREATE TABLE breaker (
	name VARCHAR(255) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	generation BIGINT DEFAULT '0' NOT NULL, 
	open_count BIGINT DEFAULT '0' NOT NULL, 
	opened_until VARCHAR(24), 
	probe_by VARCHAR(64), 
	probe_until VARCHAR(24), 
	PRIMARY KEY (name)
);
CREATE TABLE bucket (
	name VARCHAR(255) NOT NULL, 
	tokens FLOAT NOT NULL, 
	at VARCHAR(24) NOT NULL, 
	leases TEXT NOT NULL, 
	queue TEXT NOT NULL, 
	waited_ms BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE pause (
	dependency VARCHAR(255) NOT NULL, 
	until VARCHAR(24) NOT NULL, 
	PRIMARY KEY (dependency)
);
CREATE INDEX occurrence_unsettled ON occurrence (job, slot) WHERE state IN ('claimed', 'queued');
CREATE INDEX slot_by_time ON slot (job, scheduled_for);
CREATE INDEX run_by_start ON run (started_at);
CREATE INDEX run_by_slot ON run (job, slot, started_at);
CREATE INDEX lease_held ON lease (until) WHERE until IS NOT NULL;
CREATE INDEX item_in_trouble ON item (job, slot, "key") WHERE state IN ('failed', 'retry', 'unknown');
CREATE INDEX item_due ON item (job, slot, next_at) WHERE state = 'retry';
CREATE INDEX item_in_order ON item (job, slot, seq);
CREATE INDEX call_by_question ON call (job, slot, "key", hash, nth);
CREATE INDEX call_in_flight ON call (budget_day) WHERE error_code = 'in_flight';
CREATE INDEX call_by_day ON call (budget_day);
CREATE INDEX tool_call_by_item ON tool_call (job, slot, "key");
CREATE INDEX effect_by_item ON effect (job, slot, "key");
CREATE INDEX effect_stuck ON effect (job) WHERE state = 'stuck';
CREATE INDEX effect_unknown ON effect (job) WHERE state = 'unknown';
CREATE INDEX spend_by_day ON spend (budget_day);
CREATE INDEX spend_by_slot ON spend (job, slot);
CREATE INDEX trouble_by_code ON trouble (job, error_code);
COMMIT;
