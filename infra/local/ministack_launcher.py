"""Runs MiniStack with what it lacks for this project put right, from inside the process (no fork, the version is pinned).

Started by emulator.py with the instance's folder as its argument. Each fix is one function below that says what is wrong
without it; test_launcher.py has a test for each. `apply_fixes` is the list.
"""

import base64
import contextvars
import email
import email.utils
import hashlib
import json
import socketserver
import threading
import time

from ministack.core import iam_actions, lambda_runtime
from ministack.core.arn import parse_arn
from ministack.core.responses import _request_account_id, _request_region, new_uuid
from ministack.services import apigateway, dynamodb, kinesis, lambda_svc, ses_v2, sns, sqs
from ministack.services.cloudformation import provisioners

# Lambda hands a function at most this much of a stream at once, as base64 in the event.
MAX_EVENT_BYTES = 6 * 1024 * 1024
LONGEST_BACKOFF_SECONDS = 5


def fix_latency():
    """Every invocation waited 40 ms for a delayed ACK and 50 ms for log lines that never came."""
    socketserver.StreamRequestHandler.disable_nagle_algorithm = True
    first_line_wait, idle_confirm, hard_cap = 0.002, 0.002, 0.05
    lambda_runtime.Worker._drain_stderr_bounded.__defaults__ = (first_line_wait, idle_confirm, hard_cap)


def fix_cors():
    """CloudFormation stores CorsConfiguration in PascalCase, the gateway reads camelCase: every preflight got a 403."""

    def camel(configuration):
        return {key[:1].lower() + key[1:]: value for key, value in (configuration or {}).items()}

    def wrap(function):
        return lambda configuration, origin: function(camel(configuration), origin)

    apigateway._cors_response_headers = wrap(apigateway._cors_response_headers)
    apigateway._cors_preflight_response = wrap(apigateway._cors_preflight_response)


def fix_compressed_bodies():
    """A gzip body with a JSON content type was decoded as UTF-8, which destroys it; AWS hands it over as base64."""
    encoding = contextvars.ContextVar("content-encoding", default=None)
    is_text, invoke = apigateway._v2_request_body_is_text, apigateway._invoke_lambda_proxy

    async def invoke_knowing_encoding(integration, api, stage, path, method, headers, *rest, **named):
        token = encoding.set(headers.get("content-encoding"))
        try:
            return await invoke(integration, api, stage, path, method, headers, *rest, **named)
        finally:
            encoding.reset(token)

    apigateway._v2_request_body_is_text = lambda content_type: not encoding.get() and is_text(content_type)
    apigateway._invoke_lambda_proxy = invoke_knowing_encoding


def fix_sns_to_lambda():
    """SNS invokes a function asynchronously: a failure is retried twice. Here it was logged and forgotten."""

    def deliver(endpoint, envelope, topic_arn, subscription_arn, message_id, raw, attributes):
        function, configuration, _ = lambda_svc._get_func_record_for_ref(endpoint)
        if not function or not configuration:
            return
        record = {"EventVersion": "1.0", "EventSubscriptionArn": subscription_arn, "EventSource": "aws:sns"}
        record["Sns"] = json.loads(envelope)
        execution = dict(function)
        execution.update(lambda_svc._execution_record_for_config(function, configuration))
        lambda_svc.invoke_async_with_retry(execution, {"Records": [record]})

    sns._deliver_to_lambda = deliver


def _typed(value):
    """Numbers and booleans that CloudFormation handed over as text."""
    if isinstance(value, dict):
        return {key: _typed(each) for key, each in value.items()}
    if isinstance(value, str) and value.lstrip("-").isdigit():
        return int(value)
    return value == "true" if value in ("true", "false") else value


def fix_mapping_numbers():
    """CloudFormation hands parameters over as text. One mapping with MaximumConcurrency "5" stopped every SQS mapping."""
    handlers = provisioners._RESOURCE_HANDLERS["AWS::Lambda::EventSourceMapping"]
    create, update = handlers["create"], handlers["update"]
    handlers["create"] = lambda logical_id, properties, *rest: create(logical_id, _typed(properties), *rest)
    handlers["update"] = lambda physical_id, old, new, *rest, **named: update(physical_id, _typed(old), _typed(new), *rest, **named)


def fix_time_to_live():
    """CloudFormation ignored TimeToLiveSpecification of a table."""
    handlers = provisioners._RESOURCE_HANDLERS["AWS::DynamoDB::Table"]
    create, update = handlers["create"], handlers["update"]

    def set_time_to_live(result, properties):
        specification = _typed(properties.get("TimeToLiveSpecification"))
        if specification:
            dynamodb._update_ttl({"TableName": result[0], "TimeToLiveSpecification": specification})
        return result

    def create_with(logical_id, properties, *rest):
        return set_time_to_live(create(logical_id, properties, *rest), properties)

    def update_with(physical_id, old, new, *rest, **named):
        return set_time_to_live(update(physical_id, old, new, *rest, **named), new)

    handlers["create"], handlers["update"] = create_with, update_with


def fix_permission_to_read_a_stream():
    """GetRecords names its stream by the iterator only, so a role that may read one stream was refused."""
    extract = iam_actions.extract_resource_arn

    def extract_knowing_iterators(service, method, path, headers, body, *rest, **named):
        arn = extract(service, method, path, headers, body, *rest, **named)
        if service == "kinesis" and arn == "*":
            iterator = kinesis._shard_iterators.get(iam_actions._safe_json_field(body, "ShardIterator"))
            return iterator["stream_arn"] if iterator else arn
        return arn

    iam_actions.extract_resource_arn = extract_knowing_iterators


def fix_permissions_of_batches():
    """IAM has no actions for the batch calls of SNS and SQS: who may publish or send, may publish or send many. Here a role
    needed actions that do not exist."""
    extract = iam_actions.extract_iam_action
    batches = ("sns:PublishBatch", "sqs:SendMessageBatch", "sqs:DeleteMessageBatch", "sqs:ChangeMessageVisibilityBatch")

    def extract_as_iam_knows_it(*request):
        action = extract(*request)
        return action.removesuffix("Batch") if action in batches else action

    iam_actions.extract_iam_action = extract_as_iam_knows_it


def fix_permission_to_send_mail():
    """SendEmail names its identity by the sender only, so a role that may send as any identity was refused."""
    extract = iam_actions.extract_resource_arn

    def extract_knowing_senders(service, method, path, headers, body, query_params, region, account_id):
        arn = extract(service, method, path, headers, body, query_params, region, account_id)
        if service == "ses" and arn == "*" and path.rstrip("/") == "/v2/email/outbound-emails":
            _, address = email.utils.parseaddr(iam_actions._safe_json_field(body, "FromEmailAddress") or "")
            return f"arn:aws:ses:{region}:{account_id}:identity/{address}" if address else arn
        return arn

    iam_actions.extract_resource_arn = extract_knowing_senders


def fix_headers_of_mail():
    """The headers that a caller adds to a simple mail were left out of what is relayed."""
    added = contextvars.ContextVar("added-headers", default=())
    handle, build = ses_v2.handle_request, ses_v2._build_mime_message

    async def handle_knowing_headers(method, path, headers, body, query_params):
        try:
            wanted = json.loads(body)["Content"]["Simple"]["Headers"] if body else ()
        except (ValueError, KeyError, TypeError):
            wanted = ()
        token = added.set(wanted)
        try:
            return await handle(method, path, headers, body, query_params)
        finally:
            added.reset(token)

    def build_with_headers(*arguments):
        message = email.message_from_string(build(*arguments))
        for header in added.get():
            message[header["Name"]] = header["Value"]
        return message.as_string()

    ses_v2.handle_request, ses_v2._build_mime_message = handle_knowing_headers, build_with_headers


def fix_kinesis_retention():
    """Every put rebuilt the list of all stored records. Now only when the oldest has expired; mappings keep their place."""
    expire = kinesis._expire_records

    def expire_when_needed(stream):
        oldest_kept = time.time() - stream["RetentionPeriodHours"] * 3600
        shards = stream["shards"]
        if not any(s["records"] and s["records"][0]["ApproximateArrivalTimestamp"] < oldest_kept for s in shards.values()):
            return
        with _positions_lock:
            before = {shard_id: len(shard["records"]) for shard_id, shard in shards.items()}
            expire(stream)
            # A mapping's position counts records from the start of the list, which has just moved.
            for account, region, mapping in lambda_svc._iter_all_esms():
                if mapping.get("EventSourceArn") != stream["StreamARN"]:
                    continue
                with _in_scope(account, region):
                    positions = lambda_svc._kinesis_positions.get(mapping["UUID"]) or {}
                for shard_id in positions:
                    gone = before.get(shard_id, 0) - len(shards[shard_id]["records"])
                    positions[shard_id] = max(0, positions[shard_id] - gone)

    kinesis._expire_records = expire_when_needed


def fix_kinesis_mappings():
    """The event source mapping ignored partial batch responses (samples were lost silently), retry limits, bisecting, the
    record age, OnFailure and the batching window, and served all shards from one thread. Now it does as Lambda documents."""
    lambda_svc._poll_kinesis = poll_kinesis


# ---------------------------------------------------------------- the Kinesis event source mapping

_positions_lock = threading.RLock()
_workers = {}  # (mapping, shard) -> ShardWorker


class _in_scope:
    """MiniStack keeps its data per account and region, which it finds in context variables."""

    def __init__(self, account, region):
        self.wanted = account, region

    def __enter__(self):
        self.tokens = _request_account_id.set(self.wanted[0]), _request_region.set(self.wanted[1])

    def __exit__(self, *_):
        _request_account_id.reset(self.tokens[0])
        _request_region.reset(self.tokens[1])


def poll_kinesis():
    """Called by MiniStack's poll loop: starts a worker for every shard that has a batch ready. Never blocks."""
    for account, region, mapping in lambda_svc._iter_all_esms():
        if not mapping.get("Enabled", True) or ":kinesis:" not in mapping.get("EventSourceArn", ""):
            continue
        with _in_scope(account, region):
            _poll_mapping(mapping)
    return False  # nothing was processed on this thread; workers wake the loop when they end


def _poll_mapping(mapping):
    function, _ = lambda_svc._get_func_record_for_qualifier(mapping["FunctionName"], mapping.get("Qualifier"))
    source = parse_arn(mapping["EventSourceArn"])
    name = lambda_svc._kinesis_stream_name_from_arn_spec(source)
    stream = kinesis._streams.get_scoped(source.account_id, source.region, name)
    if function is None or not stream or stream["StreamStatus"] != "ACTIVE":
        return
    positions = lambda_svc._kinesis_positions.get(mapping["UUID"])
    if positions is None:
        from_start = mapping.get("StartingPosition") == "TRIM_HORIZON"
        positions = {shard: 0 if from_start else len(s["records"]) for shard, s in stream["shards"].items()}
        lambda_svc._kinesis_positions[mapping["UUID"]] = positions
    for shard_id, shard in list(stream["shards"].items()):
        positions.setdefault(shard_id, 0)
        worker = _workers.setdefault((mapping["UUID"], shard_id), ShardWorker(shard_id))
        worker.poll(mapping, function, shard, positions)


class ShardWorker:
    """Feeds one shard to one mapping's function, a batch at a time and in order."""

    def __init__(self, shard_id):
        self.shard_id = shard_id
        self.busy = False
        self.attempts = 0  # of the batch at the position
        self.cut = None  # number of records to which a failing batch was cut, or None
        self.alarm_at = 0.0

    def poll(self, mapping, function, shard, positions):
        if self.busy:
            return
        with _positions_lock:
            waiting = shard["records"][positions[self.shard_id]:]
        if not waiting:
            return
        batch = _take(waiting, self.cut or mapping.get("BatchSize", 100))
        due = waiting[0]["ApproximateArrivalTimestamp"] + (mapping.get("MaximumBatchingWindowInSeconds") or 0)
        full = len(batch) < len(waiting) or len(batch) >= mapping.get("BatchSize", 100)
        if not full and not self.attempts and self.cut is None and time.time() < due:
            return self._wake_at(due)
        self.busy = True
        context = contextvars.copy_context()
        arguments = (self._run, mapping, function, batch, positions)
        threading.Thread(target=context.run, args=arguments, daemon=True).start()

    def _wake_at(self, due):
        """The loop looks once a second by itself; a window ends on time."""
        if self.alarm_at < due:
            self.alarm_at = due
            timer = threading.Timer(max(0.0, due - time.time()) + 0.001, lambda_svc._esm_wake.set)
            timer.daemon = True
            timer.start()

    def _run(self, mapping, function, batch, positions):
        try:
            self._deliver(mapping, function, batch, positions)
        finally:
            self.busy = False
            lambda_svc._esm_wake.set()

    def _advance(self, positions, count):
        with _positions_lock:
            positions[self.shard_id] += count
        self.attempts, self.cut = 0, None

    def _deliver(self, mapping, function, batch, positions):
        result = lambda_svc._execute_function(function, _event(mapping, self.shard_id, batch))
        self.attempts += 1
        failed_at = _first_failure(mapping, batch, result)
        if failed_at is None:
            self._advance(positions, len(batch))
            mapping["LastProcessingResult"] = "OK"
            return
        mapping["LastProcessingResult"] = "PROBLEM: Function call failed"
        if failed_at > 0:  # what came before is done; the rest is the next batch, as a first attempt
            self._advance(positions, failed_at)
            self.cut = len(batch) - failed_at
            return
        age_limit = mapping.get("MaximumRecordAgeInSeconds") or -1
        attempt_limit = mapping.get("MaximumRetryAttempts", -1)
        if 0 < age_limit < time.time() - batch[0]["ApproximateArrivalTimestamp"]:
            condition = "MaxRecordAgeExceeded"
        elif mapping.get("BisectBatchOnFunctionError") and len(batch) > 1:
            self.attempts, self.cut = 0, (len(batch) + 1) // 2
            return
        elif 0 <= attempt_limit < self.attempts:
            condition = "RetryAttemptsExhausted"
        else:
            self.cut = len(batch)  # the same records again, not what has arrived since
            time.sleep(min(LONGEST_BACKOFF_SECONDS, 0.2 * 2 ** min(self.attempts, 5)))
            return
        _send_to_on_failure(mapping, function, self.shard_id, batch, condition, self.attempts)
        self._advance(positions, len(batch))


def _take(waiting, count):
    """The next batch: at most `count` records, and no more than an event holds."""
    size = 0
    for index, record in enumerate(waiting[:count]):
        size += len(record["Data"]) * (1 if isinstance(record["Data"], str) else 4 / 3)
        if size > MAX_EVENT_BYTES and index > 0:
            return waiting[:index]
    return waiting[:count]


def _event(mapping, shard_id, batch):
    def record(stored):
        data = stored["Data"]
        return {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": stored["PartitionKey"],
                "sequenceNumber": stored["SequenceNumber"],
                "data": data if isinstance(data, str) else base64.b64encode(data).decode(),
                "approximateArrivalTimestamp": stored["ApproximateArrivalTimestamp"],
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{shard_id}:{stored['SequenceNumber']}",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": "arn:aws:iam::000000000000:role/lambda-role",
            "awsRegion": _request_region.get(),
            "eventSourceARN": mapping["EventSourceArn"],
        }

    return {"Records": [record(stored) for stored in batch]}


def _first_failure(mapping, batch, result):
    """The index from which Lambda would retry, or None when the whole batch succeeded."""
    if result.get("error"):
        return 0
    body = result.get("body")
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except ValueError:
            body = None
    failures = body.get("batchItemFailures") if isinstance(body, dict) else None
    if not failures or "ReportBatchItemFailures" not in (mapping.get("FunctionResponseTypes") or []):
        return None
    places = {stored["SequenceNumber"]: index for index, stored in enumerate(batch)}
    # An identifier that is missing or unknown fails the whole batch.
    return min(places.get(failure.get("itemIdentifier"), 0) for failure in failures)


def _send_to_on_failure(mapping, function, shard_id, batch, condition, attempts):
    """Sends what Lambda sends to an OnFailure destination: where the records are, not the records."""
    destination = ((mapping.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination")
    if not destination:
        return

    def iso(seconds):
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))

    body = json.dumps({
        "requestContext": {
            "requestId": new_uuid(),
            "functionArn": function["config"]["FunctionArn"],
            "condition": condition,
            "approximateInvokeCount": attempts,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": iso(time.time()),
        "KinesisBatchInfo": {
            "shardId": shard_id,
            "startSequenceNumber": batch[0]["SequenceNumber"],
            "endSequenceNumber": batch[-1]["SequenceNumber"],
            "approximateArrivalOfFirstRecord": iso(batch[0]["ApproximateArrivalTimestamp"]),
            "approximateArrivalOfLastRecord": iso(batch[-1]["ApproximateArrivalTimestamp"]),
            "batchSize": len(batch),
            "streamArn": mapping["EventSourceArn"],
        },
    })
    if parse_arn(destination).service == "sns":
        sns._fanout(destination, new_uuid(), body, "", "", {})
    else:
        _put_on_queue(sqs._queue_by_arn(destination), body)


def _put_on_queue(queue, body):
    if queue is None:
        return
    now = time.time()
    queue["messages"].append({
        "id": new_uuid(), "body": body, "md5_body": hashlib.md5(body.encode()).hexdigest(), "md5_attrs": "",
        "receipt_handle": None, "sent_at": now, "visible_at": now + sqs.queue_delay(queue), "receive_count": 0,
        "first_receive_at": None, "message_attributes": {}, "group_id": None, "dedup_id": None, "dedup_cache_key": None,
        "seq": None, "sys": {"SenderId": _request_account_id.get(), "SentTimestamp": str(int(now * 1000))},
    })


def apply_fixes():
    fix_latency()
    fix_cors()
    fix_compressed_bodies()
    fix_sns_to_lambda()
    fix_mapping_numbers()
    fix_time_to_live()
    fix_permission_to_read_a_stream()
    fix_permissions_of_batches()
    fix_permission_to_send_mail()
    fix_headers_of_mail()
    fix_kinesis_retention()
    fix_kinesis_mappings()


if __name__ == "__main__":
    import sys

    apply_fixes()
    from ministack.app import main

    sys.argv = sys.argv[:1]  # the folder is there to be seen in the process list; MiniStack takes no arguments
    main()
