// Made by regenerate.sh from spank.h; do not edit.

pub type slurm_err_t = ::core::ffi::c_uint;
pub type spank_t = *mut spank_handle;
pub type spank_item = ::core::ffi::c_uint;
pub type spank_context = ::core::ffi::c_uint;
pub type spank_opt_cb_f = ::core::option::Option<
    unsafe extern "C" fn(
        val: ::core::ffi::c_int,
        optarg: *const ::core::ffi::c_char,
        remote: ::core::ffi::c_int,
    ) -> ::core::ffi::c_int,
>;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct spank_handle {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct spank_option {
    pub name: *mut ::core::ffi::c_char,
    pub arginfo: *mut ::core::ffi::c_char,
    pub usage: *mut ::core::ffi::c_char,
    pub has_arg: ::core::ffi::c_int,
    pub val: ::core::ffi::c_int,
    pub cb: spank_opt_cb_f,
}
pub const ESPANK_SUCCESS: u32 = 0;
pub const SLURM_VERSION_NUMBER: u32 = 1443080;
pub const SLURM_UNEXPECTED_MSG_ERROR: slurm_err_t = 1000;
pub const SLURM_COMMUNICATIONS_CONNECTION_ERROR: slurm_err_t = 1001;
pub const SLURM_COMMUNICATIONS_SEND_ERROR: slurm_err_t = 1002;
pub const SLURM_COMMUNICATIONS_RECEIVE_ERROR: slurm_err_t = 1003;
pub const SLURM_COMMUNICATIONS_SHUTDOWN_ERROR: slurm_err_t = 1004;
pub const SLURM_PROTOCOL_VERSION_ERROR: slurm_err_t = 1005;
pub const SLURM_PROTOCOL_IO_STREAM_VERSION_ERROR: slurm_err_t = 1006;
pub const SLURM_PROTOCOL_AUTHENTICATION_ERROR: slurm_err_t = 1007;
pub const SLURM_PROTOCOL_INSANE_MSG_LENGTH: slurm_err_t = 1008;
pub const SLURM_MPI_PLUGIN_NAME_INVALID: slurm_err_t = 1009;
pub const SLURM_MPI_PLUGIN_PRELAUNCH_SETUP_FAILED: slurm_err_t = 1010;
pub const SLURM_PLUGIN_NAME_INVALID: slurm_err_t = 1011;
pub const SLURM_UNKNOWN_FORWARD_ADDR: slurm_err_t = 1012;
pub const SLURM_COMMUNICATIONS_MISSING_SOCKET_ERROR: slurm_err_t = 1013;
pub const SLURMCTLD_COMMUNICATIONS_CONNECTION_ERROR: slurm_err_t = 1800;
pub const SLURMCTLD_COMMUNICATIONS_SEND_ERROR: slurm_err_t = 1801;
pub const SLURMCTLD_COMMUNICATIONS_RECEIVE_ERROR: slurm_err_t = 1802;
pub const SLURMCTLD_COMMUNICATIONS_SHUTDOWN_ERROR: slurm_err_t = 1803;
pub const SLURM_NO_CHANGE_IN_DATA: slurm_err_t = 1900;
pub const ESLURM_INVALID_PARTITION_NAME: slurm_err_t = 2000;
pub const ESLURM_DEFAULT_PARTITION_NOT_SET: slurm_err_t = 2001;
pub const ESLURM_ACCESS_DENIED: slurm_err_t = 2002;
pub const ESLURM_JOB_MISSING_REQUIRED_PARTITION_GROUP: slurm_err_t = 2003;
pub const ESLURM_REQUESTED_NODES_NOT_IN_PARTITION: slurm_err_t = 2004;
pub const ESLURM_TOO_MANY_REQUESTED_CPUS: slurm_err_t = 2005;
pub const ESLURM_INVALID_NODE_COUNT: slurm_err_t = 2006;
pub const ESLURM_ERROR_ON_DESC_TO_RECORD_COPY: slurm_err_t = 2007;
pub const ESLURM_JOB_MISSING_SIZE_SPECIFICATION: slurm_err_t = 2008;
pub const ESLURM_JOB_SCRIPT_MISSING: slurm_err_t = 2009;
pub const ESLURM_USER_ID_MISSING: slurm_err_t = 2010;
pub const ESLURM_DUPLICATE_JOB_ID: slurm_err_t = 2011;
pub const ESLURM_PATHNAME_TOO_LONG: slurm_err_t = 2012;
pub const ESLURM_NOT_TOP_PRIORITY: slurm_err_t = 2013;
pub const ESLURM_REQUESTED_NODE_CONFIG_UNAVAILABLE: slurm_err_t = 2014;
pub const ESLURM_REQUESTED_PART_CONFIG_UNAVAILABLE: slurm_err_t = 2015;
pub const ESLURM_NODES_BUSY: slurm_err_t = 2016;
pub const ESLURM_INVALID_JOB_ID: slurm_err_t = 2017;
pub const ESLURM_INVALID_NODE_NAME: slurm_err_t = 2018;
pub const ESLURM_WRITING_TO_FILE: slurm_err_t = 2019;
pub const ESLURM_TRANSITION_STATE_NO_UPDATE: slurm_err_t = 2020;
pub const ESLURM_ALREADY_DONE: slurm_err_t = 2021;
pub const ESLURM_INTERCONNECT_FAILURE: slurm_err_t = 2022;
pub const ESLURM_BAD_DIST: slurm_err_t = 2023;
pub const ESLURM_JOB_PENDING: slurm_err_t = 2024;
pub const ESLURM_BAD_TASK_COUNT: slurm_err_t = 2025;
pub const ESLURM_INVALID_JOB_CREDENTIAL: slurm_err_t = 2026;
pub const ESLURM_IN_STANDBY_MODE: slurm_err_t = 2027;
pub const ESLURM_INVALID_NODE_STATE: slurm_err_t = 2028;
pub const ESLURM_INVALID_FEATURE: slurm_err_t = 2029;
pub const ESLURM_INVALID_AUTHTYPE_CHANGE: slurm_err_t = 2030;
pub const ESLURM_ACTIVE_FEATURE_NOT_SUBSET: slurm_err_t = 2031;
pub const ESLURM_INVALID_SCHEDTYPE_CHANGE: slurm_err_t = 2032;
pub const ESLURM_INVALID_SELECTTYPE_CHANGE: slurm_err_t = 2033;
pub const ESLURM_INVALID_SWITCHTYPE_CHANGE: slurm_err_t = 2034;
pub const ESLURM_FRAGMENTATION: slurm_err_t = 2035;
pub const ESLURM_NOT_SUPPORTED: slurm_err_t = 2036;
pub const ESLURM_DISABLED: slurm_err_t = 2037;
pub const ESLURM_DEPENDENCY: slurm_err_t = 2038;
pub const ESLURM_BATCH_ONLY: slurm_err_t = 2039;
pub const ESLURM_TASKDIST_ARBITRARY_UNSUPPORTED: slurm_err_t = 2040;
pub const ESLURM_TASKDIST_REQUIRES_OVERCOMMIT: slurm_err_t = 2041;
pub const ESLURM_JOB_HELD: slurm_err_t = 2042;
pub const ESLURM_INVALID_CRED_TYPE_CHANGE: slurm_err_t = 2043;
pub const ESLURM_INVALID_TASK_MEMORY: slurm_err_t = 2044;
pub const ESLURM_INVALID_ACCOUNT: slurm_err_t = 2045;
pub const ESLURM_INVALID_PARENT_ACCOUNT: slurm_err_t = 2046;
pub const ESLURM_SAME_PARENT_ACCOUNT: slurm_err_t = 2047;
pub const ESLURM_INVALID_LICENSES: slurm_err_t = 2048;
pub const ESLURM_NEED_RESTART: slurm_err_t = 2049;
pub const ESLURM_ACCOUNTING_POLICY: slurm_err_t = 2050;
pub const ESLURM_INVALID_TIME_LIMIT: slurm_err_t = 2051;
pub const ESLURM_RESERVATION_ACCESS: slurm_err_t = 2052;
pub const ESLURM_RESERVATION_INVALID: slurm_err_t = 2053;
pub const ESLURM_INVALID_TIME_VALUE: slurm_err_t = 2054;
pub const ESLURM_RESERVATION_BUSY: slurm_err_t = 2055;
pub const ESLURM_RESERVATION_NOT_USABLE: slurm_err_t = 2056;
pub const ESLURM_INVALID_WCKEY: slurm_err_t = 2057;
pub const ESLURM_RESERVATION_OVERLAP: slurm_err_t = 2058;
pub const ESLURM_PORTS_BUSY: slurm_err_t = 2059;
pub const ESLURM_PORTS_INVALID: slurm_err_t = 2060;
pub const ESLURM_PROLOG_RUNNING: slurm_err_t = 2061;
pub const ESLURM_NO_STEPS: slurm_err_t = 2062;
pub const ESLURM_INVALID_BLOCK_STATE: slurm_err_t = 2063;
pub const ESLURM_INVALID_BLOCK_LAYOUT: slurm_err_t = 2064;
pub const ESLURM_INVALID_BLOCK_NAME: slurm_err_t = 2065;
pub const ESLURM_INVALID_QOS: slurm_err_t = 2066;
pub const ESLURM_QOS_PREEMPTION_LOOP: slurm_err_t = 2067;
pub const ESLURM_NODE_NOT_AVAIL: slurm_err_t = 2068;
pub const ESLURM_INVALID_CPU_COUNT: slurm_err_t = 2069;
pub const ESLURM_PARTITION_NOT_AVAIL: slurm_err_t = 2070;
pub const ESLURM_CIRCULAR_DEPENDENCY: slurm_err_t = 2071;
pub const ESLURM_INVALID_GRES: slurm_err_t = 2072;
pub const ESLURM_JOB_NOT_PENDING: slurm_err_t = 2073;
pub const ESLURM_QOS_THRES: slurm_err_t = 2074;
pub const ESLURM_PARTITION_IN_USE: slurm_err_t = 2075;
pub const ESLURM_STEP_LIMIT: slurm_err_t = 2076;
pub const ESLURM_JOB_SUSPENDED: slurm_err_t = 2077;
pub const ESLURM_CAN_NOT_START_IMMEDIATELY: slurm_err_t = 2078;
pub const ESLURM_INTERCONNECT_BUSY: slurm_err_t = 2079;
pub const ESLURM_RESERVATION_EMPTY: slurm_err_t = 2080;
pub const ESLURM_INVALID_ARRAY: slurm_err_t = 2081;
pub const ESLURM_RESERVATION_NAME_DUP: slurm_err_t = 2082;
pub const ESLURM_JOB_STARTED: slurm_err_t = 2083;
pub const ESLURM_JOB_FINISHED: slurm_err_t = 2084;
pub const ESLURM_JOB_NOT_RUNNING: slurm_err_t = 2085;
pub const ESLURM_JOB_NOT_PENDING_NOR_RUNNING: slurm_err_t = 2086;
pub const ESLURM_JOB_NOT_SUSPENDED: slurm_err_t = 2087;
pub const ESLURM_JOB_NOT_FINISHED: slurm_err_t = 2088;
pub const ESLURM_TRIGGER_DUP: slurm_err_t = 2089;
pub const ESLURM_INTERNAL: slurm_err_t = 2090;
pub const ESLURM_INVALID_BURST_BUFFER_CHANGE: slurm_err_t = 2091;
pub const ESLURM_BURST_BUFFER_PERMISSION: slurm_err_t = 2092;
pub const ESLURM_BURST_BUFFER_LIMIT: slurm_err_t = 2093;
pub const ESLURM_INVALID_BURST_BUFFER_REQUEST: slurm_err_t = 2094;
pub const ESLURM_PRIO_RESET_FAIL: slurm_err_t = 2095;
pub const ESLURM_CANNOT_MODIFY_CRON_JOB: slurm_err_t = 2096;
pub const ESLURM_INVALID_MCS_LABEL: slurm_err_t = 2099;
pub const ESLURM_BURST_BUFFER_WAIT: slurm_err_t = 2100;
pub const ESLURM_PARTITION_DOWN: slurm_err_t = 2101;
pub const ESLURM_DUPLICATE_GRES: slurm_err_t = 2102;
pub const ESLURM_JOB_SETTING_DB_INX: slurm_err_t = 2103;
pub const ESLURM_RSV_ALREADY_STARTED: slurm_err_t = 2104;
pub const ESLURM_SUBMISSIONS_DISABLED: slurm_err_t = 2105;
pub const ESLURM_NOT_HET_JOB: slurm_err_t = 2106;
pub const ESLURM_NOT_HET_JOB_LEADER: slurm_err_t = 2107;
pub const ESLURM_NOT_WHOLE_HET_JOB: slurm_err_t = 2108;
pub const ESLURM_CORE_RESERVATION_UPDATE: slurm_err_t = 2109;
pub const ESLURM_DUPLICATE_STEP_ID: slurm_err_t = 2110;
pub const ESLURM_INVALID_CORE_CNT: slurm_err_t = 2111;
pub const ESLURM_X11_NOT_AVAIL: slurm_err_t = 2112;
pub const ESLURM_GROUP_ID_MISSING: slurm_err_t = 2113;
pub const ESLURM_BATCH_CONSTRAINT: slurm_err_t = 2114;
pub const ESLURM_INVALID_TRES: slurm_err_t = 2115;
pub const ESLURM_INVALID_TRES_BILLING_WEIGHTS: slurm_err_t = 2116;
pub const ESLURM_INVALID_JOB_DEFAULTS: slurm_err_t = 2117;
pub const ESLURM_RESERVATION_MAINT: slurm_err_t = 2118;
pub const ESLURM_INVALID_GRES_TYPE: slurm_err_t = 2119;
pub const ESLURM_REBOOT_IN_PROGRESS: slurm_err_t = 2120;
pub const ESLURM_MULTI_KNL_CONSTRAINT: slurm_err_t = 2121;
pub const ESLURM_UNSUPPORTED_GRES: slurm_err_t = 2122;
pub const ESLURM_INVALID_NICE: slurm_err_t = 2123;
pub const ESLURM_INVALID_TIME_MIN_LIMIT: slurm_err_t = 2124;
pub const ESLURM_DEFER: slurm_err_t = 2125;
pub const ESLURM_CONFIGLESS_DISABLED: slurm_err_t = 2126;
pub const ESLURM_ENVIRONMENT_MISSING: slurm_err_t = 2127;
pub const ESLURM_RESERVATION_NO_SKIP: slurm_err_t = 2128;
pub const ESLURM_RESERVATION_USER_GROUP: slurm_err_t = 2129;
pub const ESLURM_PARTITION_ASSOC: slurm_err_t = 2130;
pub const ESLURM_IN_STANDBY_USE_BACKUP: slurm_err_t = 2131;
pub const ESLURM_BAD_THREAD_PER_CORE: slurm_err_t = 2132;
pub const ESLURM_INVALID_PREFER: slurm_err_t = 2133;
pub const ESLURM_INSUFFICIENT_GRES: slurm_err_t = 2134;
pub const ESPANK_ERROR: slurm_err_t = 3000;
pub const ESPANK_BAD_ARG: slurm_err_t = 3001;
pub const ESPANK_NOT_TASK: slurm_err_t = 3002;
pub const ESPANK_ENV_EXISTS: slurm_err_t = 3003;
pub const ESPANK_ENV_NOEXIST: slurm_err_t = 3004;
pub const ESPANK_NOSPACE: slurm_err_t = 3005;
pub const ESPANK_NOT_REMOTE: slurm_err_t = 3006;
pub const ESPANK_NOEXIST: slurm_err_t = 3007;
pub const ESPANK_NOT_EXECD: slurm_err_t = 3008;
pub const ESPANK_NOT_AVAIL: slurm_err_t = 3009;
pub const ESPANK_NOT_LOCAL: slurm_err_t = 3010;
pub const ESLURMD_PIPE_ERROR_ON_TASK_SPAWN: slurm_err_t = 4000;
pub const ESLURMD_KILL_TASK_FAILED: slurm_err_t = 4001;
pub const ESLURMD_KILL_JOB_ALREADY_COMPLETE: slurm_err_t = 4002;
pub const ESLURMD_INVALID_ACCT_FREQ: slurm_err_t = 4003;
pub const ESLURMD_INVALID_JOB_CREDENTIAL: slurm_err_t = 4004;
pub const ESLURMD_UID_NOT_FOUND: slurm_err_t = 4005;
pub const ESLURMD_GID_NOT_FOUND: slurm_err_t = 4006;
pub const ESLURMD_CREDENTIAL_EXPIRED: slurm_err_t = 4007;
pub const ESLURMD_CREDENTIAL_REVOKED: slurm_err_t = 4008;
pub const ESLURMD_CREDENTIAL_REPLAYED: slurm_err_t = 4009;
pub const ESLURMD_CREATE_BATCH_DIR_ERROR: slurm_err_t = 4010;
pub const ESLURMD_MODIFY_BATCH_DIR_ERROR: slurm_err_t = 4011;
pub const ESLURMD_CREATE_BATCH_SCRIPT_ERROR: slurm_err_t = 4012;
pub const ESLURMD_MODIFY_BATCH_SCRIPT_ERROR: slurm_err_t = 4013;
pub const ESLURMD_SETUP_ENVIRONMENT_ERROR: slurm_err_t = 4014;
pub const ESLURMD_SHARED_MEMORY_ERROR: slurm_err_t = 4015;
pub const ESLURMD_SET_UID_OR_GID_ERROR: slurm_err_t = 4016;
pub const ESLURMD_SET_SID_ERROR: slurm_err_t = 4017;
pub const ESLURMD_CANNOT_SPAWN_IO_THREAD: slurm_err_t = 4018;
pub const ESLURMD_FORK_FAILED: slurm_err_t = 4019;
pub const ESLURMD_EXECVE_FAILED: slurm_err_t = 4020;
pub const ESLURMD_IO_ERROR: slurm_err_t = 4021;
pub const ESLURMD_PROLOG_FAILED: slurm_err_t = 4022;
pub const ESLURMD_EPILOG_FAILED: slurm_err_t = 4023;
pub const ESLURMD_SESSION_KILLED: slurm_err_t = 4024;
pub const ESLURMD_TOOMANYSTEPS: slurm_err_t = 4025;
pub const ESLURMD_STEP_EXISTS: slurm_err_t = 4026;
pub const ESLURMD_JOB_NOTRUNNING: slurm_err_t = 4027;
pub const ESLURMD_STEP_SUSPENDED: slurm_err_t = 4028;
pub const ESLURMD_STEP_NOTSUSPENDED: slurm_err_t = 4029;
pub const ESLURMD_INVALID_SOCKET_NAME_LEN: slurm_err_t = 4030;
pub const ESLURMD_CONTAINER_RUNTIME_INVALID: slurm_err_t = 4031;
pub const ESLURMD_CPU_BIND_ERROR: slurm_err_t = 4032;
pub const ESLURMD_CPU_LAYOUT_ERROR: slurm_err_t = 4033;
pub const ESCRIPT_CHDIR_FAILED: slurm_err_t = 4100;
pub const ESCRIPT_OPEN_OUTPUT_FAILED: slurm_err_t = 4101;
pub const ESCRIPT_NON_ZERO_RETURN: slurm_err_t = 4102;
pub const SLURM_PROTOCOL_SOCKET_IMPL_ZERO_RECV_LENGTH: slurm_err_t = 5000;
pub const SLURM_PROTOCOL_SOCKET_IMPL_NEGATIVE_RECV_LENGTH: slurm_err_t = 5001;
pub const SLURM_PROTOCOL_SOCKET_IMPL_NOT_ALL_DATA_SENT: slurm_err_t = 5002;
pub const ESLURM_PROTOCOL_INCOMPLETE_PACKET: slurm_err_t = 5003;
pub const SLURM_PROTOCOL_SOCKET_IMPL_TIMEOUT: slurm_err_t = 5004;
pub const SLURM_PROTOCOL_SOCKET_ZERO_BYTES_SENT: slurm_err_t = 5005;
pub const ESLURM_AUTH_CRED_INVALID: slurm_err_t = 6000;
pub const ESLURM_AUTH_FOPEN_ERROR: slurm_err_t = 6001;
pub const ESLURM_AUTH_NET_ERROR: slurm_err_t = 6002;
pub const ESLURM_AUTH_UNABLE_TO_SIGN: slurm_err_t = 6003;
pub const ESLURM_AUTH_BADARG: slurm_err_t = 6004;
pub const ESLURM_AUTH_MEMORY: slurm_err_t = 6005;
pub const ESLURM_AUTH_INVALID: slurm_err_t = 6006;
pub const ESLURM_AUTH_UNPACK: slurm_err_t = 6007;
pub const ESLURM_AUTH_SKIP: slurm_err_t = 6008;
pub const ESLURM_DB_CONNECTION: slurm_err_t = 7000;
pub const ESLURM_JOBS_RUNNING_ON_ASSOC: slurm_err_t = 7001;
pub const ESLURM_CLUSTER_DELETED: slurm_err_t = 7002;
pub const ESLURM_ONE_CHANGE: slurm_err_t = 7003;
pub const ESLURM_BAD_NAME: slurm_err_t = 7004;
pub const ESLURM_OVER_ALLOCATE: slurm_err_t = 7005;
pub const ESLURM_RESULT_TOO_LARGE: slurm_err_t = 7006;
pub const ESLURM_DB_QUERY_TOO_WIDE: slurm_err_t = 7007;
pub const ESLURM_DB_CONNECTION_INVALID: slurm_err_t = 7008;
pub const ESLURM_NO_REMOVE_DEFAULT_ACCOUNT: slurm_err_t = 7009;
pub const ESLURM_FED_CLUSTER_MAX_CNT: slurm_err_t = 7100;
pub const ESLURM_FED_CLUSTER_MULTIPLE_ASSIGNMENT: slurm_err_t = 7101;
pub const ESLURM_INVALID_CLUSTER_FEATURE: slurm_err_t = 7102;
pub const ESLURM_JOB_NOT_FEDERATED: slurm_err_t = 7103;
pub const ESLURM_INVALID_CLUSTER_NAME: slurm_err_t = 7104;
pub const ESLURM_FED_JOB_LOCK: slurm_err_t = 7105;
pub const ESLURM_FED_NO_VALID_CLUSTERS: slurm_err_t = 7106;
pub const ESLURM_MISSING_TIME_LIMIT: slurm_err_t = 8000;
pub const ESLURM_INVALID_KNL: slurm_err_t = 8001;
pub const ESLURM_PLUGIN_INVALID: slurm_err_t = 8002;
pub const ESLURM_PLUGIN_INCOMPLETE: slurm_err_t = 8003;
pub const ESLURM_REST_INVALID_QUERY: slurm_err_t = 9000;
pub const ESLURM_REST_FAIL_PARSING: slurm_err_t = 9001;
pub const ESLURM_REST_INVALID_JOBS_DESC: slurm_err_t = 9002;
pub const ESLURM_REST_EMPTY_RESULT: slurm_err_t = 9003;
pub const ESLURM_DATA_PATH_NOT_FOUND: slurm_err_t = 9200;
pub const ESLURM_DATA_PTR_NULL: slurm_err_t = 9201;
pub const ESLURM_DATA_CONV_FAILED: slurm_err_t = 9202;
pub const ESLURM_DATA_REGEX_COMPILE: slurm_err_t = 9203;
pub const ESLURM_DATA_UNKNOWN_MIME_TYPE: slurm_err_t = 9204;
pub const ESLURM_DATA_TOO_LARGE: slurm_err_t = 9205;
pub const ESLURM_CONTAINER_NOT_CONFIGURED: slurm_err_t = 10000;
pub const S_JOB_UID: spank_item = 0;
pub const S_JOB_GID: spank_item = 1;
pub const S_JOB_ID: spank_item = 2;
pub const S_JOB_STEPID: spank_item = 3;
pub const S_JOB_NNODES: spank_item = 4;
pub const S_JOB_NODEID: spank_item = 5;
pub const S_JOB_LOCAL_TASK_COUNT: spank_item = 6;
pub const S_JOB_TOTAL_TASK_COUNT: spank_item = 7;
pub const S_JOB_NCPUS: spank_item = 8;
pub const S_JOB_ARGV: spank_item = 9;
pub const S_JOB_ENV: spank_item = 10;
pub const S_TASK_ID: spank_item = 11;
pub const S_TASK_GLOBAL_ID: spank_item = 12;
pub const S_TASK_EXIT_STATUS: spank_item = 13;
pub const S_TASK_PID: spank_item = 14;
pub const S_JOB_PID_TO_GLOBAL_ID: spank_item = 15;
pub const S_JOB_PID_TO_LOCAL_ID: spank_item = 16;
pub const S_JOB_LOCAL_TO_GLOBAL_ID: spank_item = 17;
pub const S_JOB_GLOBAL_TO_LOCAL_ID: spank_item = 18;
pub const S_JOB_SUPPLEMENTARY_GIDS: spank_item = 19;
pub const S_SLURM_VERSION: spank_item = 20;
pub const S_SLURM_VERSION_MAJOR: spank_item = 21;
pub const S_SLURM_VERSION_MINOR: spank_item = 22;
pub const S_SLURM_VERSION_MICRO: spank_item = 23;
pub const S_STEP_CPUS_PER_TASK: spank_item = 24;
pub const S_JOB_ALLOC_CORES: spank_item = 25;
pub const S_JOB_ALLOC_MEM: spank_item = 26;
pub const S_STEP_ALLOC_CORES: spank_item = 27;
pub const S_STEP_ALLOC_MEM: spank_item = 28;
pub const S_SLURM_RESTART_COUNT: spank_item = 29;
pub const S_JOB_ARRAY_ID: spank_item = 30;
pub const S_JOB_ARRAY_TASK_ID: spank_item = 31;
pub const S_CTX_ERROR: spank_context = 0;
pub const S_CTX_LOCAL: spank_context = 1;
pub const S_CTX_REMOTE: spank_context = 2;
pub const S_CTX_ALLOCATOR: spank_context = 3;
pub const S_CTX_SLURMD: spank_context = 4;
pub const S_CTX_JOB_SCRIPT: spank_context = 5;
pub use self::slurm_err_t as spank_err_t;
pub use self::spank_context as spank_context_t;
pub use self::spank_item as spank_item_t;
unsafe extern "C" {
    pub fn spank_strerror(err: spank_err_t) -> *const ::core::ffi::c_char;
    pub fn spank_symbol_supported(symbol: *const ::core::ffi::c_char) -> ::core::ffi::c_int;
    pub fn spank_remote(spank: spank_t) -> ::core::ffi::c_int;
    pub fn spank_context() -> spank_context_t;
    pub fn spank_option_register(spank: spank_t, opt: *mut spank_option) -> spank_err_t;
    pub fn spank_option_getopt(
        spank: spank_t,
        opt: *mut spank_option,
        optarg: *mut *mut ::core::ffi::c_char,
    ) -> spank_err_t;
    pub fn spank_get_item(spank: spank_t, item: spank_item_t, ...) -> spank_err_t;
    pub fn spank_getenv(
        spank: spank_t,
        var: *const ::core::ffi::c_char,
        buf: *mut ::core::ffi::c_char,
        len: ::core::ffi::c_int,
    ) -> spank_err_t;
    pub fn spank_setenv(
        spank: spank_t,
        var: *const ::core::ffi::c_char,
        val: *const ::core::ffi::c_char,
        overwrite: ::core::ffi::c_int,
    ) -> spank_err_t;
    pub fn spank_unsetenv(spank: spank_t, var: *const ::core::ffi::c_char) -> spank_err_t;
    pub fn spank_job_control_setenv(
        sp: spank_t,
        name: *const ::core::ffi::c_char,
        value: *const ::core::ffi::c_char,
        overwrite: ::core::ffi::c_int,
    ) -> spank_err_t;
    pub fn spank_job_control_getenv(
        sp: spank_t,
        name: *const ::core::ffi::c_char,
        buf: *mut ::core::ffi::c_char,
        len: ::core::ffi::c_int,
    ) -> spank_err_t;
    pub fn spank_job_control_unsetenv(sp: spank_t, name: *const ::core::ffi::c_char) -> spank_err_t;
    pub fn slurm_info(format: *const ::core::ffi::c_char, ...);
    pub fn slurm_error(format: *const ::core::ffi::c_char, ...);
    pub fn slurm_spank_log(arg1: *const ::core::ffi::c_char, ...);
}
