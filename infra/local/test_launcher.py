"""One test per fix of ministack_launcher.py, against an instance of its own on a free port.

    .tools/bin/python infra/local/test_launcher.py
"""

import base64
import email
import email.header
import gzip
import inspect
import io
import json
import pathlib
import socket
import sys
import tempfile
import threading
import time
import unittest
import urllib.request
import zipfile
from queue import SimpleQueue
from unittest import mock

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from emulator import REGION, Emulator

ROLE = "functions"
API_ID = "a0000002"

# A function in a few lines: it writes down what it was given and answers as its MODE says.
BOOTSTRAP = """#!{python}
import base64, json, os, time, urllib.request
runtime = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
mode, journal = os.environ["MODE"], os.environ["JOURNAL"]

def handle(event):
    if "Records" in event and "kinesis" in event["Records"][0]:
        data = [base64.b64decode(each["kinesis"]["data"]).decode()[:20] for each in event["Records"]]
        first = not os.path.exists(journal)
        with open(journal, "a") as out:
            out.write(json.dumps({{"at": time.time(), "data": data}}) + "\\n")
        if mode == "together":
            patience = time.monotonic() + 20
            while len(open(journal).readlines()) < 3:
                if time.monotonic() > patience:
                    raise ValueError("alone")
                time.sleep(0.01)
        if mode == "fail-on-poison" and "poison" in data:
            raise ValueError("poison")
        if mode == "partial" and first:
            return {{"batchItemFailures": [{{"itemIdentifier": event["Records"][2]["kinesis"]["sequenceNumber"]}}]}}
        return {{"batchItemFailures": []}}
    with open(journal, "a") as out:
        out.write(json.dumps({{"at": time.time(), "event": event}}) + "\\n")
    if mode == "fail-first" and len(open(journal).readlines()) == 1:
        raise ValueError("the first time")
    echo = {{"base64": event.get("isBase64Encoded"), "body": event.get("body")}}
    return {{"statusCode": 200, "body": json.dumps(echo)}}

while True:
    with urllib.request.urlopen(runtime + "next") as answer:
        request, event = answer.headers["Lambda-Runtime-Aws-Request-Id"], json.load(answer)
    try:
        path, result = "/response", handle(event)
    except Exception as error:
        path, result = "/error", {{"errorType": "Error", "errorMessage": str(error)}}
    urllib.request.urlopen(urllib.request.Request(runtime + request + path, data=json.dumps(result).encode()))
"""

TEMPLATE = {
    "Parameters": {"Concurrency": {"Type": "Number", "Default": 3}},
    "Resources": {
        "Api": {
            "Type": "AWS::ApiGatewayV2::Api",
            "Properties": {
                "Name": "test", "ProtocolType": "HTTP", "Tags": {"ms-custom-id": API_ID},
                "CorsConfiguration": {"AllowOrigins": ["*"], "AllowMethods": ["POST"], "MaxAge": 60},
            },
        },
        "Stage": {
            "Type": "AWS::ApiGatewayV2::Stage",
            "Properties": {"ApiId": {"Ref": "Api"}, "StageName": "$default", "AutoDeploy": True},
        },
        "Integration": {
            "Type": "AWS::ApiGatewayV2::Integration",
            "Properties": {
                "ApiId": {"Ref": "Api"}, "IntegrationType": "AWS_PROXY", "PayloadFormatVersion": "2.0",
                "IntegrationUri": f"arn:aws:lambda:{REGION}:000000000000:function:echo",
            },
        },
        "Route": {
            "Type": "AWS::ApiGatewayV2::Route",
            "Properties": {
                "ApiId": {"Ref": "Api"}, "RouteKey": "POST /echo", "Target": {"Fn::Sub": "integrations/${Integration}"},
            },
        },
        "Table": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "TableName": "with-ttl", "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
                "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
                "TimeToLiveSpecification": {"AttributeName": "expires_at", "Enabled": True},
            },
        },
        "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "mapped"}},
        "Mapping": {
            "Type": "AWS::Lambda::EventSourceMapping",
            "Properties": {
                "FunctionName": "queue-reader", "EventSourceArn": {"Fn::GetAtt": ["Queue", "Arn"]},
                "ScalingConfig": {"MaximumConcurrency": {"Ref": "Concurrency"}},
            },
        },
    },
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(condition, seconds=15):
    """Polls until the condition gives something true, and returns that."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s")
        time.sleep(0.02)
    return value


class MailSink:
    """Takes every mail, one connection after the other."""

    def __init__(self):
        self.received = SimpleQueue()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self._listener.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb", buffering=0) as stream:
                self._talk(stream)

    def _talk(self, stream):
        stream.write(b"220 sink\r\n")
        while line := stream.readline():
            command = line.strip().upper()
            if command == b"DATA":
                stream.write(b"354 go on\r\n")
                mail = b""
                while (line := stream.readline()) != b".\r\n":
                    mail += line
                self.received.put(email.message_from_bytes(mail))
            if command == b"QUIT":
                stream.write(b"221 bye\r\n")
                return
            stream.write(b"250 ok\r\n")


def client_of(emulator, service, key="test", secret="test"):
    return boto3.client(
        service, endpoint_url=emulator.url, region_name=REGION, aws_access_key_id=key, aws_secret_access_key=secret,
        config=Config(retries={"max_attempts": 1}),
    )


class LauncherTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)
        cls.mails = MailSink()
        cls.addClassCleanup(cls.mails.close)
        cls.emulator = Emulator(cls.folder, free_port(), cls.mails.port)
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.emulator.start()
        cls.addClassCleanup(cls.emulator.stop)
        cls.functions = cls.client("lambda")
        cls.kinesis = cls.client("kinesis")
        cls.make_role()
        cls.make_function("echo", "echo")
        cls.make_function("queue-reader", "echo")
        formation = cls.client("cloudformation")
        formation.create_stack(StackName="test", TemplateBody=json.dumps(TEMPLATE))
        formation.get_waiter("stack_create_complete").wait(StackName="test", WaiterConfig={"Delay": 1})

    @classmethod
    def client(cls, service):
        return client_of(cls.emulator, service)

    @classmethod
    def make_role(cls):
        def document(**statement):
            return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]})

        iam = cls.client("iam")
        trust = document(Principal={"Service": "lambda.amazonaws.com"}, Action="sts:AssumeRole")
        iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=trust)
        allowed = document(Action=["kinesis:*", "sqs:*"], Resource="*")
        iam.put_role_policy(RoleName=ROLE, PolicyName="sources", PolicyDocument=allowed)

    @classmethod
    def make_function(cls, name, mode):
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            entry = zipfile.ZipInfo("bootstrap")
            entry.external_attr = 0o755 << 16
            archive.writestr(entry, BOOTSTRAP.format(python=sys.executable))
        cls.functions.create_function(
            FunctionName=name, Runtime="provided.al2023", Handler="bootstrap", Timeout=10, Code={"ZipFile": code.getvalue()},
            Role=f"arn:aws:iam::000000000000:role/{ROLE}",
            Environment={"Variables": {"MODE": mode, "JOURNAL": str(cls.folder / f"{name}.journal")}},
        )

    def journal(self, name):
        path = self.folder / f"{name}.journal"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def stream_into(self, name, mode, records, shards=1, **mapping):
        """A stream with these (shard, data) records, read by a function of that mode. Returns the dead-letter queue's URL."""
        self.kinesis.create_stream(StreamName=name, ShardCount=shards)
        self.kinesis.get_waiter("stream_exists").wait(StreamName=name)
        self.make_function(name, mode)
        description = self.kinesis.describe_stream(StreamName=name)["StreamDescription"]
        starts = [shard["HashKeyRange"]["StartingHashKey"] for shard in description["Shards"]]
        for shard, data in records:
            self.kinesis.put_record(StreamName=name, PartitionKey="k", ExplicitHashKey=starts[shard], Data=data)
        queue = self.client("sqs").create_queue(QueueName=f"{name}-dead")["QueueUrl"]
        self.functions.create_event_source_mapping(
            FunctionName=name, EventSourceArn=description["StreamARN"], StartingPosition="TRIM_HORIZON",
            FunctionResponseTypes=["ReportBatchItemFailures"],
            DestinationConfig={"OnFailure": {"Destination": f"arn:aws:sqs:{REGION}:000000000000:{name}-dead"}}, **mapping,
        )
        return queue

    def delivered(self, name):
        return [each for call in self.journal(name) for each in call["data"]]

    def dead_letter(self, queue):
        def received():
            return self.client("sqs").receive_message(QueueUrl=queue).get("Messages")

        return json.loads(eventually(received)[0]["Body"])

    # ------------------------------------------------------------ one per fix

    def test_a_warm_invocation_does_not_wait_for_acks_or_log_lines(self):
        import ministack_launcher as launcher

        launcher.fix_latency()
        self.assertTrue(launcher.socketserver.StreamRequestHandler.disable_nagle_algorithm)
        parameters = inspect.signature(launcher.lambda_runtime.Worker._drain_stderr_bounded).parameters.values()
        waits = [parameter.default for parameter in parameters if parameter.default is not inspect.Parameter.empty]
        self.assertEqual(waits, [0.002, 0.002, 0.05], "first line, silence, all together")

    def test_a_preflight_is_answered_with_the_cors_rules_of_the_template(self):
        request = urllib.request.Request(
            f"{self.emulator.url}/_aws/execute-api/{API_ID}/echo", method="OPTIONS",
            headers={"Origin": "http://console.example", "Access-Control-Request-Method": "POST"},
        )
        with urllib.request.urlopen(request) as answer:
            self.assertEqual(answer.status, 204)
            self.assertEqual(answer.headers["Access-Control-Allow-Origin"], "*")
            self.assertEqual(answer.headers["Access-Control-Allow-Methods"], "POST")

    def test_a_compressed_json_body_arrives_as_the_bytes_that_were_sent(self):
        body = gzip.compress(b'{"name":"cpu"}')
        request = urllib.request.Request(
            f"{self.emulator.url}/_aws/execute-api/{API_ID}/echo", data=body,
            headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
        )
        with urllib.request.urlopen(request) as answer:
            echo = json.load(answer)
        self.assertTrue(echo["base64"])
        self.assertEqual(echo["body"].encode(), base64.b64encode(body))

    def test_a_function_that_fails_on_an_sns_message_gets_it_again(self):
        self.make_function("sns-reader", "fail-first")
        sns = self.client("sns")
        topic = sns.create_topic(Name="retried")["TopicArn"]
        endpoint = f"arn:aws:lambda:{REGION}:000000000000:function:sns-reader"
        sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=endpoint)
        sns.publish(TopicArn=topic, Message="hello")
        eventually(lambda: len(self.journal("sns-reader")) == 2, seconds=20)

    def test_a_queue_is_served_whose_mapping_took_its_concurrency_from_a_parameter(self):
        sqs = self.client("sqs")
        sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName="mapped")["QueueUrl"], MessageBody="hello")
        eventually(lambda: self.journal("queue-reader"))

    def test_time_to_live_of_the_template_is_in_force(self):
        described = self.client("dynamodb").describe_time_to_live(TableName="with-ttl")["TimeToLiveDescription"]
        self.assertEqual(described, {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"})

    def test_a_partial_failure_is_delivered_again_from_the_first_failed_record(self):
        self.stream_into("partial", "partial", [(0, f"r{i}") for i in range(5)])
        eventually(lambda: len(self.journal("partial")) == 2)
        self.assertEqual([call["data"] for call in self.journal("partial")], [["r0", "r1", "r2", "r3", "r4"], ["r2", "r3", "r4"]])

    def test_bisecting_isolates_a_poison_record_and_sends_it_to_on_failure(self):
        records = [(0, "a"), (0, "b"), (0, "poison"), (0, "c")]
        queue = self.stream_into(
            "bisected", "fail-on-poison", records, BisectBatchOnFunctionError=True, MaximumRetryAttempts=1
        )
        letter = self.dead_letter(queue)
        self.assertEqual(letter["requestContext"]["condition"], "RetryAttemptsExhausted")
        self.assertEqual(letter["KinesisBatchInfo"]["batchSize"], 1)
        eventually(lambda: "c" in [each for call in self.journal("bisected")[-1:] for each in call["data"]])
        good = [call["data"] for call in self.journal("bisected") if "poison" not in call["data"]]
        self.assertEqual([each for data in good for each in data], ["a", "b", "c"])

    def test_without_a_limit_a_failing_batch_is_tried_again_and_nothing_overtakes_it(self):
        self.stream_into("endless", "fail-on-poison", [(0, "poison"), (0, "later")], BatchSize=1)
        eventually(lambda: len(self.journal("endless")) >= 3)
        self.assertEqual(set(self.delivered("endless")), {"poison"})

    def test_a_record_past_its_age_limit_goes_to_on_failure(self):
        queue = self.stream_into("aged", "fail-on-poison", [(0, "poison")], MaximumRecordAgeInSeconds=60)
        uuid = self.functions.list_event_source_mappings(FunctionName="aged")["EventSourceMappings"][0]["UUID"]
        self.functions.update_event_source_mapping(UUID=uuid, MaximumRecordAgeInSeconds=1)
        self.assertEqual(self.dead_letter(queue)["requestContext"]["condition"], "MaxRecordAgeExceeded")

    def test_the_batching_window_gathers_records_and_ends_on_time(self):
        import ministack_launcher as launcher

        clock = mock.Mock(**{"time.return_value": 100.0})
        worker, batches, alarms = launcher.ShardWorker("shard"), SimpleQueue(), mock.Mock()
        worker._run = lambda mapping, function, batch, positions: batches.put(batch)
        records = []

        def poll_at(now):
            clock.time.return_value = now
            with mock.patch.object(launcher, "time", clock), mock.patch.object(launcher.threading, "Timer", alarms):
                worker.poll({"MaximumBatchingWindowInSeconds": 2}, None, {"records": records}, {"shard": 0})

        for arrival in (100.0, 100.5, 101.0, 101.9):
            records.append({"ApproximateArrivalTimestamp": arrival, "Data": "r"})
            poll_at(arrival)
        self.assertFalse(worker.busy, "the window ended early")
        (delay, wake), _ = alarms.call_args
        self.assertEqual(alarms.call_count, 1, "one alarm for one window")
        self.assertAlmostEqual(delay, 2.001)
        self.assertIs(wake.__self__, launcher.lambda_svc._esm_wake)
        poll_at(102.0)
        self.assertEqual(batches.get(timeout=15), records)

    def test_a_mapping_with_a_batching_window_is_served(self):
        self.stream_into("window", "ok", [(0, f"r{index}") for index in range(4)], MaximumBatchingWindowInSeconds=1)
        eventually(lambda: len(self.delivered("window")) == 4)
        self.assertEqual(self.delivered("window"), ["r0", "r1", "r2", "r3"])

    def test_shards_are_read_side_by_side_and_each_in_order(self):
        records = [(shard, f"{shard}-{i}") for i in range(2) for shard in range(3)]
        self.stream_into("side", "together", records, shards=3, BatchSize=1)
        eventually(lambda: len(self.delivered("side")) == 6)
        # A function waits until three run at once; alone it fails, and its record comes a second time.
        for shard in "012":
            self.assertEqual([d for d in self.delivered("side") if d[0] == shard], [f"{shard}-0", f"{shard}-1"])

    def test_a_batch_ends_where_an_event_is_full(self):
        records = [(0, f"r{i:<19}" + "x" * 900_000) for i in range(8)]
        self.stream_into("full", "ok", records)
        eventually(lambda: len(self.delivered("full")) == 8)
        self.assertEqual([len(call["data"]) for call in self.journal("full")], [5, 3])

    def test_retention_leaves_the_records_alone_until_one_expires_and_mappings_keep_their_place(self):
        import ministack_launcher as launcher

        launcher.fix_kinesis_retention()
        old, new = {"ApproximateArrivalTimestamp": 0.0}, {"ApproximateArrivalTimestamp": time.time()}
        kept, expiring = [new, new], [old, old, new, new]
        stream = {
            "StreamARN": "arn:aws:kinesis:x:0:stream/s", "RetentionPeriodHours": 24,
            "shards": {"kept": {"records": kept}},
        }
        launcher.kinesis._expire_records(stream)
        self.assertIs(stream["shards"]["kept"]["records"], kept, "the list was rebuilt although nothing expired")

        stream["shards"]["expiring"] = {"records": expiring}
        launcher.lambda_svc._esms["m"] = {"UUID": "m", "EventSourceArn": stream["StreamARN"]}
        launcher.lambda_svc._kinesis_positions["m"] = {"kept": 1, "expiring": 3}
        launcher.kinesis._expire_records(stream)
        self.assertEqual(stream["shards"]["expiring"]["records"], [new, new])
        self.assertEqual(launcher.lambda_svc._kinesis_positions["m"], {"kept": 1, "expiring": 1})

    def test_permissions_are_enforced_and_one_to_read_a_stream_is_enough_to_read_it(self):
        with self.assertRaisesRegex(ClientError, "UnrecognizedClient"):
            client_of(self.emulator, "kinesis", "AKIASTRANGER00000000", "x").list_streams()

        iam = self.client("iam")
        iam.create_user(UserName="reader")
        actions = ["kinesis:GetShardIterator", "kinesis:GetRecords"]
        resource = f"arn:aws:kinesis:{REGION}:000000000000:stream/readable"
        allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": resource}]}
        iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=json.dumps(allowed))
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        reader = client_of(self.emulator, "kinesis", key["AccessKeyId"], key["SecretAccessKey"])

        for name in ("readable", "private"):
            self.kinesis.create_stream(StreamName=name, ShardCount=1)
            self.kinesis.get_waiter("stream_exists").wait(StreamName=name)
            self.kinesis.put_record(StreamName=name, PartitionKey="k", Data="hello")
        start = {"ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON"}
        iterator = reader.get_shard_iterator(StreamName="readable", **start)["ShardIterator"]
        self.assertEqual(reader.get_records(ShardIterator=iterator)["Records"][0]["Data"], b"hello")
        with self.assertRaisesRegex(ClientError, "AccessDenied"):
            reader.get_shard_iterator(StreamName="private", **start)
        foreign = self.kinesis.get_shard_iterator(StreamName="private", **start)["ShardIterator"]
        with self.assertRaisesRegex(ClientError, "AccessDenied"):
            reader.get_records(ShardIterator=foreign)

    def test_who_may_publish_may_publish_a_batch(self):
        topic = self.client("sns").create_topic(Name="transitions")["TopicArn"]
        iam = self.client("iam")
        iam.create_user(UserName="publisher")
        allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sns:Publish", "Resource": topic}]}
        iam.put_user_policy(UserName="publisher", PolicyName="publish", PolicyDocument=json.dumps(allowed))
        key = iam.create_access_key(UserName="publisher")["AccessKey"]
        publisher = client_of(self.emulator, "sns", key["AccessKeyId"], key["SecretAccessKey"])
        entries = [{"Id": "one", "Message": "1"}, {"Id": "two", "Message": "2"}]
        answer = publisher.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)
        self.assertEqual([entry["Id"] for entry in answer["Successful"]], ["one", "two"])
        with self.assertRaisesRegex(ClientError, "Authorization|AccessDenied"):
            publisher.create_topic(Name="another")

    def test_who_may_send_may_send_a_batch(self):
        queue = self.client("sqs").create_queue(QueueName="letters")["QueueUrl"]
        iam = self.client("iam")
        iam.create_user(UserName="sender")
        allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}]}
        iam.put_user_policy(UserName="sender", PolicyName="send", PolicyDocument=json.dumps(allowed))
        key = iam.create_access_key(UserName="sender")["AccessKey"]
        sender = client_of(self.emulator, "sqs", key["AccessKeyId"], key["SecretAccessKey"])
        entries = [{"Id": "one", "MessageBody": "1"}, {"Id": "two", "MessageBody": "2"}]
        answer = sender.send_message_batch(QueueUrl=queue, Entries=entries)
        self.assertEqual([entry["Id"] for entry in answer["Successful"]], ["one", "two"])
        with self.assertRaisesRegex(ClientError, "AccessDenied"):
            sender.receive_message(QueueUrl=queue)

    def test_who_may_send_as_any_identity_may_send_and_the_mail_has_its_headers(self):
        root = self.client("sesv2")
        root.create_email_identity(EmailIdentity="ours@example.org")
        iam = self.client("iam")
        iam.create_user(UserName="mailer")
        resource = f"arn:aws:ses:{REGION}:000000000000:identity/*"
        allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ses:SendEmail", "Resource": resource}]}
        iam.put_user_policy(UserName="mailer", PolicyName="send", PolicyDocument=json.dumps(allowed))
        key = iam.create_access_key(UserName="mailer")["AccessKey"]
        mailer = client_of(self.emulator, "sesv2", key["AccessKeyId"], key["SecretAccessKey"])
        simple = {
            "Subject": {"Data": "größer"}, "Body": {"Text": {"Data": "text"}},
            "Headers": [{"Name": "X-Tidemark-Notification-Id", "Value": "a#1"}],
        }
        mail = {"Destination": {"ToAddresses": ["ann@example.org"]}, "Content": {"Simple": simple}}
        mailer.send_email(FromEmailAddress="Tidemark <ours@example.org>", **mail)
        received = self.mails.received.get(timeout=15)
        self.assertEqual(received["X-Tidemark-Notification-Id"], "a#1")
        self.assertEqual(received["To"], "ann@example.org")
        self.assertEqual(str(email.header.make_header(email.header.decode_header(received["Subject"]))), "größer")
        self.assertEqual(received.get_payload(decode=True).decode(), "text")
        with self.assertRaisesRegex(ClientError, "MessageRejected|not verified"):
            mailer.send_email(FromEmailAddress="stranger@example.com", **mail)
        with self.assertRaisesRegex(ClientError, "AccessDenied"):
            mailer.list_email_identities()

    def test_what_was_deployed_is_there_again_after_a_restart(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        emulator = Emulator(folder.name, free_port(), free_port())
        self.addCleanup(emulator.stop)
        self.assertTrue(emulator.start())
        self.assertFalse(emulator.start(), "started twice")
        client_of(emulator, "sqs").create_queue(QueueName="kept")
        self.assertTrue(emulator.stop())
        self.assertFalse(emulator.stop(), "stopped twice")
        emulator.start()
        self.assertIn("kept", str(client_of(emulator, "sqs").list_queues()))


if __name__ == "__main__":
    unittest.main(verbosity=2)
