/* run_block.h - the flags of an entry: private to run*.c. Layer 2. */
#ifndef ADB_ENGINE_LOG_RUN_BLOCK_H
#define ADB_ENGINE_LOG_RUN_BLOCK_H

enum { /* on disk: never renumber */
       RUN_DELETED = 1 << 0,
       RUN_ORDINAL = 1 << 1,
       RUN_TABLE = 1 << 2, /* else the table of the entry before */
       RUN_FLAGS = RUN_DELETED | RUN_ORDINAL | RUN_TABLE
};

#endif
